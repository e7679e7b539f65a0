"""The virtual machine monitor: images, devicetree, launch plans, emulated devices."""
