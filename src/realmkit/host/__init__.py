"""NS-EL2: the hypervisor library and the virtual machine monitor."""
