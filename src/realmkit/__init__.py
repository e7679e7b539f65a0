"""realmkit: the Arm Confidential Compute Architecture software stack as one Python program."""

__version__ = "0.1.0"
