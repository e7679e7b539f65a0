"""A Realm that runs: RMI_REC_ENTER, and the exits that only Realms have."""

from typing import Final

from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import ENTER_RIPAS_REJECT, ExitReason, Ripas
from realmkit.host.exits import Exit, read_exit, write_enter
from realmkit.host.guest import GuestDevices
from realmkit.host.interrupts import ListRegisters
from realmkit.host.realm import HostRealm
from realmkit.host.running import GuestFailedError, RunningGuest, Vcpu

REGISTERS: Final = 31


class RunningRealm(RunningGuest):
    """A built Realm with its devices and VCPUs."""

    def __init__(self, realm: HostRealm, devices: GuestDevices) -> None:
        vcpus = [Vcpu(rec.index, rec.mpidr, ListRegisters(devices.gic, rec.index), rec.on) for rec in realm.recs]
        super().__init__("the Realm", devices, vcpus)
        self.realm = realm
        devices.connect(realm.rmi.port.bus, realm.dma_page)

    def enter(self, vcpu: Vcpu, flags: int, gprs: tuple[int, ...], hcr: int, lrs: tuple[int, ...]) -> Exit:
        """RMI_REC_ENTER."""
        rmi = self.realm.rmi
        rec = self.realm.recs[vcpu.index]
        write_enter(rmi.port.bus, rec.run, flags, gprs, hcr, lrs)
        rmi.rec_enter(rec.pa, rec.run)
        return read_exit(rmi.port.bus, rec.run)

    def serve_fault(self, ipa: int) -> int | None:
        """Memory on demand in the Protected half; a page to share, or a device, in the Unprotected half."""
        realm = self.realm
        if ipa >= realm.unprotected_base:
            address = ipa - realm.unprotected_base
            if not realm.in_ram(address):
                return address
            realm.share(ipa)
        elif not realm.in_ram(ipa):
            raise GuestFailedError(f"the Realm accessed Protected IPA {ipa:#x}, which is not RAM")
        elif not realm.provide(ipa):
            raise GuestFailedError(f"the Realm accessed IPA {ipa:#x}, whose contents the Host has destroyed")
        return None

    def complete_psci(self, caller: Vcpu, target: Vcpu) -> None:
        """RMI_PSCI_COMPLETE: the Host denies nothing."""
        recs = self.realm.recs
        self.realm.rmi.psci_complete(recs[caller.index].pa, recs[target.index].pa, PsciStatus.SUCCESS)

    def serve_special(self, vcpu: Vcpu, record: Exit) -> None:
        """RIPAS changes and host calls."""
        if record.reason == ExitReason.RIPAS_CHANGE:
            to_ram = record.ripas_value == Ripas.RAM
            base = record.ripas_base
            reached = self.realm.change_ripas(self.realm.recs[vcpu.index], base, record.ripas_top, to_ram)
            if to_ram and reached == base:
                vcpu.flags |= ENTER_RIPAS_REJECT
        elif record.reason == ExitReason.HOST_CALL:
            answer = self.devices.host_calls(record.imm, record.gprs)
            vcpu.gprs = (*answer, *(0,) * REGISTERS)[:REGISTERS]
        elif record.reason == ExitReason.SERROR:
            raise GuestFailedError(f"the Realm took an SError (ESR {record.esr:#x}): its platform is broken")
        else:
            raise GuestFailedError(f"the Realm left for a reason that the specification does not have: {record.reason}")

    def show(self, address: int, page: bytes) -> None:
        """In the Unprotected half, where devices are."""
        self.realm.show(self.realm.unprotected_base | address, page)

    def hide(self, address: int) -> None:
        """The opposite."""
        self.realm.hide(self.realm.unprotected_base | address)

    def destroy(self) -> None:
        """Destroy the Realm; every granule returns to the Non-secure PAS."""
        self.realm.destroy()
