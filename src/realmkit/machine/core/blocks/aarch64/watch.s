/*
 * What the engine calls before every block of translated code, for Linux on AArch64 (AAPCS64).
 *
 * X0: engine   X1: address of the block   W2: its size in bytes   X3: state (slots.s)
 *
 * The engine is told to stop, before the block, when the allowance is used up or PSTATE is not what it was;
 * otherwise the block is taken off the allowance and noted.
 */
	.include "slots.s"

	.text
	.globl	watch
watch:
	ldr	x9, [x3, #LEFT]
	cmp	x9, #0
	b.le	stop
	ldr	x10, [x3, #MASK]
	cbnz	x10, look
go:
	mov	w2, w2
	sub	x9, x9, x2
	str	x9, [x3, #LEFT]
	stp	x1, x2, [x3, #ADDRESS]
	ret
stop:
	ldr	x9, [x3, #STOP]
	br	x9
look:
	stp	x29, x30, [sp, #-48]!
	stp	x0, x1, [sp, #16]
	stp	x2, x3, [sp, #32]
	mov	x29, sp
	ldr	w1, [x3, #REGISTER]
	add	x2, x3, #PSTATE
	ldr	x9, [x3, #READ]
	blr	x9
	ldp	x2, x3, [sp, #32]
	ldp	x0, x1, [sp, #16]
	ldp	x29, x30, [sp], #48
	ldr	x9, [x3, #PSTATE]
	ldp	x10, x11, [x3, #MASK]
	and	x9, x9, x10
	cmp	x9, x11
	b.ne	stop
	ldr	x9, [x3, #LEFT]
	b	go
