"""RME hardware: memory, granule protection, translation, processing elements, interrupt controller, platform."""
