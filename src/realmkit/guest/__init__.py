"""What runs inside a Linux guest, and the initramfs that carries it (``realmkit initrd``).

:func:`build` makes an initramfs from a directory:

- what ``tools/fetch-guest`` leaves: ``busybox``, ``modules/`` and ``VERSION``; or
- the root directory of any arm64 system that has a shell (``bin/sh``), packed whole.

Either way it gets ``/init`` of ours (``init.sh``) and the few kernel modules that a Realm guest needs, decompressed
and in load order: every page of an initramfs is measured at launch and costs time. The archive is a pure function
of the files: no times, owners, inode numbers or order of this machine get in.

``/init`` mounts the kernel's file systems, loads the modules, answers the Host's challenge when there is an attestation
port (protocol: :mod:`realmkit.arch.challenge`), runs ``/script`` and prints its exit status, and ends in a shell or
powers off. Kernel parameters: ``realmkit.shell`` (a shell after the script), ``realmkit.poweroff`` (never a shell).
Without either, a shell follows only where there is no script. ``/realmkit/report HEX`` prints an answer by hand.
"""

from realmkit.guest.initramfs import Initramfs, build

__all__ = ["Initramfs", "build"]
