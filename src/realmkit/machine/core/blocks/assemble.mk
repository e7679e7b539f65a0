# How the machine code is made from watch.s beside the Makefile that includes this.
$(OUT): watch.s ../slots.s ../assemble.mk Makefile
	$(CROSS)as -I .. -o $@.o watch.s
	$(CROSS)objcopy -O binary -j .text $@.o $@
	rm $@.o
