"""The register of attacks: every number of the collection, and the test that shows that it does not succeed.

Numbers are those of the project's collection of regression cases (bugs that real RMMs, guests and verifiers once had).
``-`` and a reason stand where RMM 1.0 or this machine does not have what the bug needs.

| No | What went wrong | Test |
|---|---|---|
| 1 | the Host's physical timer in the exit record | attacks/test_leaks.py::test_an_exit_tells_what_is_listed_and_nothing_else |
| 1 | each timer in its own fields | rmm/execution/test_rec_enter.py::test_a_timer_that_the_host_knows_of_is_masked |
| 2 | syndrome masks | attacks/test_leaks.py::test_syndromes_are_masked |
| 2 | syndrome masks, SError | rmm/execution/test_exceptions.py::test_serror_shows_its_class_and_no_more |
| 3 | register number of a trapped write | attacks/test_leaks.py::test_a_trapped_register_write_does_not_name_the_register |
| 4 | ISV kept after an abort that cannot be emulated | attacks/test_leaks.py::test_only_what_was_emulatable_is_emulated |
| 5 | buffer of device information not zeroed | - device assignment is not in RMM 1.0 |
| 6 | uninitialised buffer of an RMM application | - this RMM has no applications; its buffers are granules: |
| 6 | granules are wiped on their way | rmm/test_granule.py::test_every_object_leaves_its_granules_wiped |
| 7 | undelegate left old contents | isolation/test_host.py::test_nothing_of_a_realm_comes_back_to_the_host |
| 7 | undelegate left old contents | rmm/test_granule.py::test_what_a_realm_left_is_gone_when_the_host_gets_the_granule_back |
| 8 | SEA and emulation at once | attacks/test_leaks.py::test_an_external_abort_and_an_emulation_at_once |
| 9 | X4 and up lost in RSI calls | attacks/test_leaks.py::test_registers_that_a_call_does_not_return_are_kept |
| 10 | MPAM and BRBE visible | attacks/test_leaks.py::test_features_that_realms_do_not_have_are_hidden |
| 11 | data granule aliases RD or RTT | rmm/test_conditions.py::test_one_granule_in_two_roles_is_refused |
| 12 | lock order of two commands | attacks/test_lifecycle.py::test_commands_of_two_pes_do_not_mix |
| 13 | error paths with auxiliary granules | rmm/execution/test_commands_rec.py::test_rec_create_refuses_its_own_granule_as_aux |
| 13 | failed commands leave everything as it was | rmm/test_conditions.py::test_condition |
| 14 | lock kept after success, token chunk of size 0 | rmm/execution/test_token.py::test_size_zero_is_no_progress |
| 15 | RD left mapped on an error of RTT_CREATE | - the RMM keeps no mapping of granules between commands |
| 16 | only the first VMID's entries invalidated | - one VMID for each Realm; its entries: |
| 16 | entries of all VCPUs go | isolation/test_stale.py::test_vcpus_of_one_realm_lose_a_page_together |
| 17 | RTT_DESTROY and the unprotected range | isolation/test_stale.py::test_a_table_under_use_is_destroyed |
| 17 | RTT_DESTROY and the unprotected range | rmm/test_rtt.py::test_destroying_an_unprotected_table_takes_its_mappings_and_their_tlb_entries |
| 18 | a local TLBI not seen on another PE | attacks/test_lifecycle.py::test_a_local_tlbi_reaches_the_pe_that_the_rec_ran_on_before |
| 19 | unprotected ranges outside the IPA space | rmm/test_conditions.py::test_condition |
| 20 | unprotected map must walk to the page | rmm/test_rtt.py::test_map_at_a_block_level_above_the_start_is_refused |
| 21 | results and top of DATA_DESTROY | rmm/test_rtt_examples.py::test_worked_example |
| 22 | FOLD and CREATE of unprotected entries | rmm/test_rtt.py::test_unprotected_entries_of_different_attributes_do_not_fold |
| 22 | FOLD and CREATE of unprotected entries | rmm/test_rtt.py::test_a_gigabyte_block_of_unprotected_memory_folds_and_unfolds |
| 23 | RIPAS changed by DATA_CREATE_UNKNOWN | rmm/test_ripas.py::test_transition_of_a_leaf |
| 23 | a DESTROYED page turned back silently | isolation/test_reclaim.py::test_a_page_of_the_host_s_choice_never_appears_instead |
| 24 | READ_ENTRY of ASSIGNED and DESTROYED | rmm/test_rtt.py::test_read_entry_reports_where_the_walk_ends |
| 25 | missing bound and alignment conditions | rmm/test_conditions.py::test_condition |
| 25 | order of conditions | rmm/test_conditions.py::test_order_of_conditions |
| 26 | RIPAS DEV | - RIPAS DEV has no encoding in RMM 1.0; other values of the argument: |
| 26 | illegal RIPAS arguments | rmm/execution/test_rsi.py::test_ranges_that_cannot_be_used |
| 26 | instruction fetch from Unprotected memory | isolation/test_realm.py::test_a_fetch_from_memory_of_the_host_is_an_external_abort |
| 27 | access outside the IPA space | isolation/test_realm.py::test_an_address_outside_the_ipa_space_is_an_address_size_fault |
| 27 | DESTROYED in IPA_STATE_GET | isolation/test_reclaim.py::test_the_realm_is_told |
| 28 | physical addresses above 48 bits, shareability | rmm/test_conditions.py::test_condition |
| 28 | shareability is not the Host's | rmm/test_rtt_examples.py::test_descriptors_are_those_of_the_architecture |
| 29 | misaligned granule addresses | rmm/test_conditions.py::test_granule_argument |
| 30 | parallel INIT_RIPAS corrupts the RIM | attacks/test_lifecycle.py::test_commands_of_two_pes_do_not_mix |
| 31 | VMIDs leaked or freed early | rmm/test_realm.py::test_vmids_are_reserved_and_released |
| 32 | vector length and GIC bits unchecked | rmm/execution/test_lists.py::test_hcr_bits_of_the_host |
| 32 | feature parameters unchecked | rmm/test_conditions.py::test_condition |
| 33 | asserts on arguments of PSCI_COMPLETE | attacks/test_lifecycle.py::test_psci_complete_takes_nothing_from_the_host_but_the_truth |
| 33 | no arguments stop the RMM | rmm/test_hostile_host.py::test_arbitrary_calls |
| 34 | refusals of EL3 ignored | rmm/test_granule.py::test_the_monitor_may_refuse_a_delegation |
| 35 | stateful operations | - stateful operations are not in RMM 1.0; failed commands change nothing: |
| 35 | granule state changed though a command failed | rmm/test_conditions.py::test_condition |
| 36 | SIMD state lost | attacks/test_lifecycle.py::test_simd_registers_survive_exits_tokens_and_other_realms |
| 37 | VMPIDR value | attacks/test_lifecycle.py::test_the_affinity_that_a_realm_reads_is_its_own |
| 37 | SVE hint in a function identifier | attacks/test_lifecycle.py::test_the_sve_hint_in_a_function_identifier |
| 38 | layout of measurements | rmm/execution/test_rsi.py::test_measurement_read |
| 38 | token context kept or cleared wrongly | rmm/execution/test_token.py::test_init_starts_again |
| 38 | interrupted token | rmm/execution/test_token.py::test_an_interrupt_comes_between_slices |
| 39 | HOST_CALL did not leave | attacks/test_lifecycle.py::test_a_host_call_leaves_for_the_host_and_comes_back |
| 39 | PC after an injected UNDEF | attacks/test_lifecycle.py::test_an_undefined_instruction_is_where_it_is |
| 39 | set/way maintenance | attacks/test_lifecycle.py::test_set_way_maintenance_of_a_realm_touches_nobody |
| 40 | planes | - planes are not in RMM 1.0 |
| 41 | devices | - device assignment is not in RMM 1.0 |
| 42 | pointer to parameters that is zero or not Non-secure | rmm/test_conditions.py::test_non_secure_buffer_argument |
| 43 | wrong binding accepted | attestation/test_verify.py::test_valid_signatures_with_a_wrong_binding_are_refused |
| 43 | challenge ignored | attestation/test_verify.py::test_another_challenge_is_refused |
| 43 | tokens of more than a page | rmm/execution/test_token.py::test_a_guest_fills_pages_by_offset |
| 44 | outputs of VERSION on an error | rmm/test_dispatch.py::test_version_has_outputs_on_failure |
| 44 | FEATURES with another index | rmm/test_dispatch.py::test_other_feature_registers_read_as_zero |
| 44 | REC_DESTROY leaves contents | rmm/execution/test_commands_rec.py::test_rec_destroy_gives_everything_back_wiped |
"""  # noqa: E501 - a table

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
ATTACKS = 44


def rows() -> list[tuple[int, str]]:
    """(number, test or reason) of each line."""
    cells = [line.split(" | ") for line in (__doc__ or "").splitlines() if line[:3] == "| N" or line[2:3].isdigit()]
    return [(int(row[0].strip("| ")), row[2].strip("| ")) for row in cells if row[0].strip("| ").isdigit()]


def test_every_number_is_there() -> None:
    assert {number for number, _ in rows()} == set(range(1, ATTACKS + 1))


@pytest.mark.parametrize("where", sorted({test for _, test in rows() if not test.startswith("-")}))
def test_the_named_test_exists(where: str) -> None:
    path, name = where.split("::")
    tree = ast.parse((TESTS / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_what_does_not_apply_says_why() -> None:
    assert all(len(reason) > 20 for _, reason in rows() if reason.startswith("-"))
