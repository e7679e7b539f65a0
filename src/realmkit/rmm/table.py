"""The command table of RMI 1.0: every module's rows, by function identifier."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from realmkit.rmm import (
    commands_data,
    commands_granule,
    commands_query,
    commands_realm,
    commands_ripas,
    commands_rtt,
    commands_unprotected,
)
from realmkit.rmm.dispatch import Command
from realmkit.rmm.execution import commands_rec, rec_enter

RMI_1_0: Final[Mapping[int, Command]] = MappingProxyType(
    {
        command.fid: command
        for command in (
            *commands_query.COMMANDS,
            *commands_granule.COMMANDS,
            *commands_realm.COMMANDS,
            *commands_rtt.COMMANDS,
            *commands_data.COMMANDS,
            *commands_ripas.COMMANDS,
            *commands_unprotected.COMMANDS,
            *commands_rec.COMMANDS,
            *rec_enter.COMMANDS,
        )
    }
)
