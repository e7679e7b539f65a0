/*
 * What the engine calls before every block of translated code, for Linux on x86-64 (System V calling convention).
 *
 * RDI: engine   RSI: address of the block   EDX: its size in bytes   RCX: state (slots.s)
 *
 * The engine is told to stop, before the block, when the allowance is used up or PSTATE is not what it was;
 * otherwise the block is taken off the allowance and noted.
 */
	.include "slots.s"

	.text
	.globl	watch
watch:
	cmpq	$0, LEFT(%rcx)
	jle	stop
	cmpq	$0, MASK(%rcx)
	jne	look
go:
	movl	%edx, %edx
	subq	%rdx, LEFT(%rcx)
	movq	%rsi, ADDRESS(%rcx)
	movq	%rdx, SIZE(%rcx)
	ret
stop:
	jmp	*STOP(%rcx)
look:
	pushq	%rdi
	pushq	%rsi
	pushq	%rdx
	pushq	%rcx
	subq	$8, %rsp
	movl	REGISTER(%rcx), %esi
	leaq	PSTATE(%rcx), %rdx
	call	*READ(%rcx)
	addq	$8, %rsp
	popq	%rcx
	popq	%rdx
	popq	%rsi
	popq	%rdi
	movq	PSTATE(%rcx), %rax
	andq	MASK(%rcx), %rax
	cmpq	EXPECTED(%rcx), %rax
	jne	stop
	jmp	go

	.section .note.GNU-stack,"",@progbits
