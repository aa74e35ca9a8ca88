"""The bugs that fresh implementations of Raft make, by number, and the tests that hold each of them here.

    python -m tests.known_bugs            the table, with the patches of `tests/sim` that plant the bug and must be caught

`test_known_bugs.py` checks that every number is here and that every test named here exists. A test is named by its file below
`tests/` and its function; a script of `tests/raft/scripts` by its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Held:
    """A bug, where it would bite, and what is not there yet to be tested."""

    bug: str
    tests: tuple[str, ...]
    missing: str | None = None


def _in(folder: str, **files: str) -> tuple[str, ...]:
    """`_in("raft", paper="a_vote_survives_a_restart ...")`: names in tests/raft/test_paper.py, without `test_`."""
    return tuple(f"{folder}/test_{file}.py::test_{name}" for file, names in files.items() for name in names.split())


def _scripts(*names: str) -> tuple[str, ...]:
    return tuple(f"raft/scripts/{name}.txt" for name in names)


_LOG = {
    1: Held(
        "an entry of an older term is committed by counting (figure 8)",
        _in("raft", paper="leader_does_not_commit_an_older_term_by_counting_replicas")
        + _scripts("figure_8_overwritten", "figure_8_committed"),
    ),
    2: Held("no no-op after an election", _in("raft", paper="a_new_leader_appends_a_noop_in_its_term")),
    3: Held(
        "a follower commits past its last matched entry",
        _in("raft", paper="a_follower_commits_no_further_than_what_matched"),
    ),
    4: Held(
        "the commit in a heartbeat is not clamped to the match",
        _in("raft", leader="heartbeats_name_no_commit_beyond_the_match"),
    ),
    5: Held(
        "any append truncates, not only a conflict",
        _in(
            "raft",
            paper="only_conflicting_entries_are_deleted requests_are_idempotent",
            log="only_a_conflict_counts_as_new",
        ),
    ),
    6: Held("a committed entry is truncated", _in("raft", log="committed_entries_are_never_truncated")),
    7: Held(
        "a previous entry that is compacted counts as a conflict",
        _in("raft", snapshots="a_previous_entry_that_is_compacted_is_no_conflict"),
    ),
    8: Held(
        "the conflict hint loops, or jumps over the match",
        _in("raft", paper="the_leader_keeps_trying_until_the_logs_match", log="search_by_term_agrees_with_a_scan")
        + _scripts("figure_7"),
    ),
    9: Held(
        "the match goes back, or an answer from an earlier term counts", _in("raft", leader="match_never_moves_back")
    ),
    10: Held(
        "the leader counts itself before its sync, or by a save of another life of its log",
        _in(
            "raft",
            leader="the_leader_counts_itself_only_when_its_disk_has_the_entry",
            saves="a_save_that_was_overtaken_proves_nothing"
            " a_leader_does_not_count_itself_for_a_save_of_an_earlier_life_of_its_log",
        )
        + _in("node", node="a_save_that_never_completes_is_never_acknowledged"),
    ),
    11: Held(
        "the quorum of an even size is one too small; learners count",
        _in(
            "raft",
            quorum="a_majority_is_more_than_half learners_never_count",
            membership="a_learner_does_not_count_for_commits",
        ),
    ),
    12: Held(
        "what was applied is applied again after a restart",
        _in("raft", log="what_was_applied_before_a_restart_is_not_delivered_again")
        + _in("statemachine", machine="a_crash_loses_what_is_not_committed_and_replay_brings_it_back"),
    ),
}

_ELECTION = {
    13: Held(
        "a vote or a term is answered before it is on disk",
        _in("raft", saves="votes_and_acknowledgements_wait_for_the_disk requests_for_votes_wait_for_the_disk")
        + _in("node", node_disk="a_vote_leaves_only_once_it_is_on_disk"),
    ),
    14: Held(
        "up to date by the last index alone, or the length alone",
        _in("raft", log="up_to_date_means_term_first_then_length", paper="a_voter_refuses_a_log_that_lacks_something"),
    ),
    15: Held(
        "two votes in a term after a restart",
        _in("raft", paper="one_vote_per_term_first_come_first_served a_vote_survives_a_restart")
        + _in("storage", wal="hard_state_outlives_the_segment_it_was_written_in"),
    ),
    16: Held(
        "any request resets the election timer",
        _in("raft", candidate="only_word_from_a_leader_or_a_vote_granted_resets_the_election_timer"),
    ),
    17: Held("stale votes are counted", _in("raft", candidate="stale_votes_are_not_counted")),
    18: Held(
        "a candidate ignores an append of its own term",
        _in("raft", paper="a_candidate_follows_a_leader_of_its_own_term"),
    ),
    19: Held("a higher term in an answer is not saved", _in("raft", paper="a_higher_term_in_an_answer_is_saved")),
    20: Held(
        "a single node cannot elect itself, or leads without an election",
        _in("raft", candidate="clusters_of_every_size_elect_a_leader_by_themselves", paper="servers_start_as_followers")
        + _in("node", node="a_lone_voter_leads_at_once a_lone_voter_whose_vote_is_not_on_disk_does_not_lead")
        + _scripts("single_node"),
    ),
    21: Held(
        "PreVote locks nodes of different terms or kinds out",
        _in(
            "raft",
            candidate="nodes_of_different_terms_elect_a_leader a_pre_vote_of_the_same_term_is_refused_with_our_term"
            " a_pre_vote_changes_nothing",
        ),
    ),
    22: Held(
        "a stuck candidate of a higher term never comes back",
        _in("raft", candidate="a_node_that_returns_with_a_higher_term_is_heard_again"),
    ),
    23: Held(
        "no CheckQuorum on a link that works one way",
        _in(
            "raft",
            leader="a_leader_that_hears_no_quorum_steps_down_within_an_election_timeout"
            " requests_from_followers_do_not_count_as_answers",
        )
        + _scripts("check_quorum"),
    ),
    24: Held(
        "a server that was removed, or rejoins, disturbs",
        _in("raft", candidate="a_removed_node_does_not_campaign a_voter_in_its_lease_ignores_candidates")
        + _in("failover", links="a_cut_node_does_not_drive_the_term_up_nor_disturb_when_it_returns")
        + _in("failover", members="a_member_that_was_down_when_it_was_removed_is_told_when_it_comes_back")
        + _scripts("prevote"),
    ),
    25: Held(
        "a learner campaigns; or does not vote when asked",
        _in("raft", candidate="a_learner_never_campaigns_but_votes") + _scripts("learner"),
    ),
}

_READS = {
    26: Held(
        "ReadIndex before the first commit of the term",
        _in("raft", read_index="reads_wait_for_a_commit_in_the_leaders_own_term"),
    ),
    27: Held(
        "ReadIndex confirmed by answers to older heartbeats",
        _in("raft", read_index="an_answer_to_an_older_heartbeat_confirms_nothing")
        + _in("node", reads="a_read_that_came_during_a_round_waits_for_the_next"),
    ),
    28: Held(
        "reads by the leader's lease under skew or a pause",
        _in("failover", links="a_leader_that_hung_for_ten_election_timeouts_answers_nothing_stale"),
        missing="there are no reads by the clock; the simulator plants some",
    ),
    29: Held(
        "a stale read from a deposed leader, or from a node that replays",
        _in("raft", read_index="a_deposed_leader_confirms_no_read")
        + _in("node", node_cluster="a_leader_cut_off_answers_no_read_and_tells_the_truth_about_its_writes")
        + _in("failover", links="a_leader_cut_from_its_followers_is_replaced_and_answers_no_linearizable_read")
        + _in("server", stopping="a_node_alone_of_three_serves_nothing_stale_and_tells_the_truth")
        + _in("nemesis", controls="linearizable_reads_in_a_partition_are_refused"),
    ),
    30: Held(
        "a read does not wait for apply",
        _in("node", reads="a_read_is_not_answered_by_a_state_behind_its_index")
        + _in("node", node="a_read_confirmed_at_an_index_waits_until_the_log_has_come_so_far"),
    ),
    31: Held(
        "a watch from 0, of a future revision, or back in time after a change of member",
        _in("mvcc", history="a_future_place_is_waited_for every_change_comes_once_and_a_revision_whole")
        + _in("server", watch="a_watch_from_now_on_is_not_told_of_what_was_acknowledged_before")
        + _in("client", watch_cursor="what_comes_twice_after_a_failover_is_dropped")
        + _in("client", watch="nothing_is_lost_doubled_or_reordered_through_leader_kills"),
    ),
}

_MEMBERSHIP = {
    32: Held(
        "a change before a commit in the term", _in("raft", membership="no_change_before_a_commit_in_the_own_term")
    ),
    33: Held("a second change while the first is uncommitted", _in("raft", membership="one_change_at_a_time")),
    34: Held(
        "in force when appended and in force when applied, mixed",
        _in("raft", membership="a_change_is_in_force_when_appended"),
    ),
    35: Held(
        "a truncated change is not rolled back",
        _in("raft", membership="history_rolls_back_and_compacts") + _scripts("change_rolled_back"),
    ),
    36: Held(
        "a removed leader in a joint configuration",
        _in("raft", membership="a_removed_leader_does_not_count_itself")
        + _in("failover", members="the_leader_is_removed_and_hands_over_first")
        + _scripts("joint_removes_leader"),
    ),
    37: Held(
        "a joint quorum counted as a majority of the union",
        _in("raft", quorum="a_joint_quorum_is_not_a_majority_of_the_union two_quorums_always_share_a_node"),
    ),
    38: Held(
        "a smaller quorum does not commit what is pending",
        _in("raft", membership="a_smaller_quorum_commits_what_is_pending"),
    ),
    39: Held(
        "the configuration is missing from the snapshot",
        _in("raft", snapshots="a_snapshot_names_the_membership_at_its_index")
        + _in("statemachine", snapshots="a_snapshot_carries_the_whole_state"),
    ),
    40: Held(
        "a learner is promoted before it has caught up",
        _in("raft", membership="a_learner_is_promoted_only_when_it_has_caught_up")
        + _in("failover", members="a_learner_is_promoted_once_it_has_caught_up_by_a_snapshot"),
    ),
    41: Held(
        "an id is used again with an empty disk",
        _in(
            "storage_faults",
            lost_disk="a_member_whose_disk_was_emptied_does_not_vote_again"
            " a_member_with_an_older_copy_of_its_disk_does_not_vote_again",
        )
        + _in("transport", transport="a_peer_that_has_lost_its_data_is_told_so_and_not_heard"),
    ),
}

_SNAPSHOT = {
    42: Held(
        "a gap between the snapshot and the log",
        _in("raft", log="a_gap_between_base_and_first_entry_is_refused")
        + _in("storage", damage="a_missing_or_exchanged_segment_is_corruption")
        + _in("node", recovery="a_state_older_than_the_log_is_refused_and_nothing_is_changed"),
    ),
    43: Held(
        "install races apply",
        _in("node", applier="a_snapshot_is_installed_in_its_turn")
        + _in(
            "node",
            node_disk="a_snapshot_holds_saves_back_until_it_is_installed"
            " of_two_snapshots_at_once_the_one_that_raft_took_is_installed",
        ),
    ),
    44: Held(
        "install throws a matching suffix away, or keeps one that conflicts",
        _in(
            "raft",
            snapshots="a_snapshot_that_matches_our_log_keeps_the_newer_suffix"
            " a_snapshot_replaces_a_log_that_conflicts_or_ends_before_it",
        ),
    ),
    45: Held(
        "a snapshot of what is not applied; announced before its data is safe",
        _in("statemachine", snapshots="a_snapshot_holds_still_while_applying_goes_on the_seal_says_what_the_file_is")
        + _in("node", snapshots="a_snapshot_is_announced_as_what_it_holds"),
    ),
    46: Held(
        "the log is cut before the snapshot and its directory are synced",
        _in("statemachine", disk_faults="an_install_killed_at_a_disk_call_leaves_old_or_new")
        + _in("node", node_disk="the_log_goes_as_far_as_the_state_machine_is_durable")
        + _in("storage_faults", crash_points="every_promise_outlives_a_kill_at_a_disk_call"),
    ),
    47: Held(
        "a slow follower gets snapshots for ever",
        _in("node", snapshots="the_log_behind_a_snapshot_under_way_is_in_use_until_it_has_arrived")
        + _in("raft", snapshots="after_a_snapshot_was_sent_the_log_goes_on_behind_it"),
    ),
    48: Held(
        "the applied index is not atomic with the data",
        _in("statemachine", machine="a_crash_loses_what_is_not_committed_and_replay_brings_it_back")
        + _in("mvcc", environment="a_killed_writer_leaves_a_whole_commit"),
    ),
    49: Held(
        "apply depends on a clock, an order of hashes, or floats",
        _in(
            "statemachine", determinism="equal_logs_make_equal_states a_node_that_starts_from_a_snapshot_ends_up_equal"
        ),
    ),
}

_CLIENT = {
    50: Held(
        "a retry is applied twice",
        _in(
            "statemachine",
            origins="the_same_batch_is_applied_once a_duplicate_is_known_after_a_restart_and_after_a_crash",
        )
        + _in("node", node_cluster="a_batch_is_proposed_again_to_the_next_leader_and_applied_once")
        + _in("statemachine", sessions="a_write_that_comes_again_is_answered_as_the_first_time_and_not_applied")
        + _in("client", sessions="a_write_whose_answer_was_lost_is_sent_again_and_gets_the_first_answer")
        + _in("failover", exactly_once="writes_through_leader_kills_all_succeed_and_none_is_applied_twice"),
    ),
    51: Held(
        "sessions are missing from the snapshot, or expire by a local clock",
        _in(
            "statemachine",
            origins="a_duplicate_is_known_after_a_snapshot an_earlier_life_of_a_node_is_not_heard_any_more",
            sessions="a_session_travels_in_snapshots an_unused_session_ends_by_the_clock_of_the_log_alone",
        ),
    ),
    52: Held(
        "who waits by index alone gets the answer to another write",
        _in("node", proposals="each_caller_gets_the_answers_to_its_own_commands an_answer_given_twice_counts_once")
        + _in("node", node_disk="answers_swallowed_by_a_snapshot_end_unknown"),
    ),
    53: Held(
        "a timeout is reported as a failure",
        _in("node", node="what_was_proposed_and_not_answered_at_its_deadline_is_unknown")
        + _in("client", failover="the_deadline_of_a_write_in_flight_leaves_it_unknown"),
    ),
    54: Held(
        "a transfer of leadership stalls",
        _in("node", node_cluster="handing_over_to_nobody_gives_up_and_leaves_nothing_behind")
        + _in("server", move_leader="a_transfer_to_a_member_that_is_down_is_given_up_and_the_leader_leads_on")
        + _scripts("transfer_given_up"),
    ),
}

_STORAGE = {
    55: Held(
        "an error of a sync is ignored, or the sync tried again",
        _in("storage", writer="after_a_failed_sync_nothing_is_ever_acknowledged")
        + _in("statemachine", disk_faults="a_failed_sync_is_never_a_commit")
        + _in(
            "storage_faults",
            disk_errors="an_error_at_any_disk_call_stops_the_process_by_name_and_breaks_no_promise"
            " a_lone_node_whose_disk_fails_acknowledges_nothing_it_does_not_have",
        ),
    ),
    56: Held(
        "a torn tail and corruption are not told apart",
        _in(
            "storage",
            damage="every_flipped_bit_in_front_of_the_last_record_is_corruption a_log_cut_at_any_byte_is_corruption"
            " a_log_whose_end_was_never_written_is_a_shorter_log",
        )
        + _in("storage_faults", torn_tail="a_node_starts_on_a_log_torn_at_every_byte_of_its_last_record"),
    ),
    57: Held(
        "a rename without a sync of its directory",
        _in("storage", crash="a_power_cut_at_any_operation_loses_nothing_promised")
        + _in("storage_faults", power_loss="no_acknowledged_write_is_lost_when_the_power_goes"),
    ),
    58: Held("the length of a record is trusted", _in("storage", damage="a_record_length_is_never_trusted")),
    59: Held(
        "the uncommitted log has no bound",
        _in(
            "raft",
            leader="the_uncommitted_log_is_bounded_but_never_refuses_when_empty"
            " a_new_leader_counts_the_uncommitted_log_it_inherits",
        )
        + _in("node", proposals="a_full_queue_refuses_and_takes_again_once_there_is_room"),
    ),
    60: Held(
        "heartbeats starve behind a large append, a snapshot, or apply",
        _in("node", node_cluster="a_hung_disk_does_not_stop_heartbeats")
        + _in("raft", leader="a_large_log_goes_in_pieces_and_a_larger_entry_alone")
        + _in("mvcc", compaction="one_huge_revision_is_removed_in_slices_too"),
    ),
    61: Held(
        "a role checked before an await; half a state after a cancellation; an exception lost in the background",
        _in("node", node="a_bug_stops_the_node_and_is_told_to_its_owner a_caller_that_goes_away_is_forgotten")
        + _in("node", applier="any_other_exception_ends_the_thread_and_is_reported")
        + _in("node", snapshots="a_node_that_leads_no_longer_sends_none cancelled_while_sending_leaves_no_file"),
    ),
}

KNOWN_BUGS: dict[int, Held] = _LOG | _ELECTION | _READS | _MEMBERSHIP | _SNAPSHOT | _CLIENT | _STORAGE


def main() -> None:
    """Print the table."""
    from tests.sim.known_bugs import BUGS

    for number, held in KNOWN_BUGS.items():
        print(f"{number:2} {held.bug}")  # noqa: T201
        for name in held.tests:
            print(f"     tests/{name}")  # noqa: T201
        for planted in (bug for bug in BUGS if bug.number == number):
            print(f"     planted, tier {planted.tier}: {planted.name}")  # noqa: T201
        if held.missing is not None:
            print(f"     not all: {held.missing}")  # noqa: T201


if __name__ == "__main__":
    main()
