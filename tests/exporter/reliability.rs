//! The faults of `docs/reliability.md`: which there are, what holds while they last, and the tests that prove it.
//!
//! What WeChat's error codes mean is taken from the rules of the exporter, what upstreams do from `upstream`; all
//! else is listed here. The document is made from that. Every test must exist and belong to every ordinary run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use syn::{Attribute, Item, ItemFn};
use wxapp_portrait_exporter::wechat::errcodes::{
    APP_SECRET_REFUSED, Advice, Credential, EXCEPTIONS, RULES, Reason, Retry, rule,
};

use crate::harness::{assert_fresh, root, with_parts};
use crate::source;
use crate::upstream::{self, Fault, Oddity, Part};

/// How a row says that its test belongs to `tests/run --long`.
const IN_THE_LONG_RUN: &str = "in the long run";

/// One fault.
struct Row {
    fault: String,
    /// What holds while it lasts and afterwards.
    holds: String,
    /// Tests, by the names with which `cargo test` lists them.
    tests: Vec<&'static str>,
}

/// Faults, what holds, and the tests that prove it.
type Rows = &'static [(&'static str, &'static str, &'static [&'static str])];

/// The name of a part of the document, and its rows.
type Area = (&'static str, Vec<Row>);

const UPSTREAM: &str =
    "upstream::a_misbehaving_upstream_affects_its_app_alone_which_recovers_by_itself";

const ERRCODES: [&str; 3] = [
    "faults::apps_with_every_fault_at_once_do_not_affect_the_others",
    "faults::one_app_with_every_fault_in_turn_keeps_its_portrait_and_does_not_affect_the_others",
    "faults::every_app_recovers_from_its_errcode_without_a_restart",
];

const POLLS: Rows = &[
    (
        "WeChat is busy for a moment",
        "the request is repeated within the poll, and no failure is counted",
        &["faults::a_request_to_a_busy_wechat_is_repeated_within_the_poll"],
    ),
    (
        "too many requests (status 429)",
        "`rate_limited`, asked again after a minute",
        &["faults::apps_with_every_fault_at_once_do_not_affect_the_others"],
    ),
    (
        "a token is refused once",
        "it is replaced once, and the portrait arrives with the same poll",
        &["faults::a_token_that_is_refused_once_is_replaced_once"],
    ),
    (
        "every token is refused",
        "two tokens are requested per poll, and never more",
        &["access::an_app_secret_gets_stable_tokens"],
    ),
    (
        "another program revokes the token",
        "it is replaced once; with `stable_token` no other program loses its token",
        &["access::ten_programs_share_an_app_and_none_loses_a_token"],
    ),
    (
        "the AppSecret is wrong or frozen",
        "it is not sent again until its file changes, which is noticed within a minute",
        &["access::a_secret_that_is_refused_is_not_sent_again_until_it_changes"],
    ),
    (
        "an app hangs in a request",
        "the others are polled meanwhile",
        &["faults::a_stalled_app_does_not_delay_the_others"],
    ),
    (
        "forty `portrait_url` hang",
        "an app that uses WeChat itself is polled at once",
        &["faults::portrait_urls_that_never_answer_do_not_delay_other_apps"],
    ),
    (
        "forty `token_url` hang",
        "an app that uses WeChat itself is polled at once",
        &["faults::token_servers_that_never_answer_do_not_delay_other_apps"],
    ),
    (
        "forty `token_command` hang",
        "an app without one is polled at once",
        &["faults::token_commands_that_never_end_do_not_delay_other_apps"],
    ),
    (
        "a host does not respond, and two days are due",
        "the second day waits for the next poll instead of another time-out",
        &["access::an_app_whose_host_does_not_answer_is_not_requested_until_its_next_poll"],
    ),
    (
        "the first of several addresses in `wechat.base_url` refuses connections",
        "the next one is used, and the first one again after ten minutes",
        &[
            "access::the_next_address_is_used_only_if_the_first_cannot_be_reached",
            "wechat::transport::tests::the_first_host_is_retried_after_a_while",
        ],
    ),
    (
        "the first of several addresses accepts no connection",
        "the next one is used after half of `wechat.timeout`",
        &["access::the_next_address_is_used_if_the_first_does_not_connect_in_time"],
    ),
    (
        "the certificate of WeChat is from an unknown authority",
        "nothing is sent before it is trusted, by `wechat.ca_file`",
        &["access::a_configured_ca_is_trusted"],
    ),
    (
        "the proxy cannot be reached",
        "the sentence names the proxy as a cause, and its password is nowhere",
        &["access::a_configured_proxy_is_for_wechat_alone_and_its_password_is_not_logged"],
    ),
    (
        "a redirect",
        "it is not followed, and the token goes nowhere",
        &["faults::a_redirect_is_not_followed_and_does_not_leak_the_token"],
    ),
    (
        "responses of 8 MiB that would take gigabytes when decoded",
        "memory grows by less than 96 MiB, and other apps are shown",
        &["faults::a_large_answer_costs_a_few_times_its_size"],
    ),
    (
        "a response that is far larger than a portrait",
        "what is kept of it is archived, and read again after a restart in the same memory",
        &["wechat::decode::tests::an_oversized_answer_is_archived_as_what_is_kept_of_it"],
    ),
    (
        "half an emoji, or a number beyond any type, in one row",
        "at most that row is lost",
        &[
            "wechat::decode::tests::half_a_surrogate_pair_and_a_number_beyond_any_type_lose_at_most_their_row",
        ],
    ),
    (
        "broken UTF-8 and a byte order mark",
        "both are tolerated",
        &["wechat::decode::tests::a_byte_order_mark_and_broken_utf_8_are_tolerated"],
    ),
    (
        "any name that WeChat may send",
        "the oldest and the newest Prometheus scrape it as it is",
        &["prometheus::prometheus_accepts_any_name_that_wechat_may_send"],
    ),
    (
        "an error that repeats a secret or a token, however short",
        "it is redacted in the log, on pages and in the status",
        &[
            "wechat::redact::tests::known_secrets_are_redacted_whatever_their_length",
            "wechat::decode::tests::errors_repeat_no_secrets",
        ],
    ),
    (
        "errcodes that nobody knows, without limit",
        "they are one value of the label `errcode`",
        &["wechat::diagnosis::tests::unknown_codes_are_counted_as_one"],
    ),
    (
        "a token of 100 KB, or with blanks",
        "it is not sent, and the sentence says why",
        &["wechat::tokens::read::tests::a_token_that_cannot_be_sent_is_refused_with_a_reason"],
    ),
    (
        "the task of an app panics",
        "it is started again, its portrait stays, and the panic is counted",
        &["faults::a_task_that_panics_is_restarted_and_counted"],
    ),
    (
        "a failure that lasts",
        "one line of the log when it begins, one an hour, one when it ends",
        &["program::a_failure_that_lasts_is_logged_when_it_begins_and_when_it_ends"],
    ),
    (
        "failures of every kind, restarts and downtime during a year",
        "every day is archived with its final figures",
        &["history::in_a_year_of_faults_and_restarts_every_day_is_archived_with_its_final_figures"],
    ),
    (
        "no portrait for more than three days",
        "the users are hidden, their timestamps stay, and they are back with the next portrait",
        &["history::stale_users_are_removed_with_the_past_days_and_restored"],
    ),
    (
        "a downtime of several days",
        "the lost days are logged once and shown as a gap",
        &["history::a_downtime_of_several_days_is_logged_once_and_shown_as_a_gap"],
    ),
];

const PROGRAMS: Rows = &[
    (
        "a `token_command` takes too long",
        "it is killed after ten seconds with everything that it has started",
        &["access::a_program_that_takes_too_long_is_killed_with_its_children"],
    ),
    (
        "a `token_command` ends, and leaves programs behind",
        "they are killed, so that polls do not add up",
        &["wechat::tokens::command::tests::child_processes_are_killed"],
    ),
    (
        "programs that a `token_command` has started keep its output open",
        "its token is used without waiting for them",
        &["wechat::tokens::command::tests::child_processes_are_not_waited_for"],
    ),
    (
        "a `token_command` prints without end",
        "64 KiB of it are kept",
        &["wechat::tokens::command::tests::a_program_may_write_as_much_as_it_likes"],
    ),
    (
        "a `token_command` prints its environment",
        "the secrets of `secret_env` are not in it",
        &["wechat::tokens::command::tests::hidden_variables_are_not_inherited"],
    ),
    (
        "a `token_command` writes its token to standard error",
        "the token is redacted in the log",
        &["access::a_program_that_prints_no_token_is_reported"],
    ),
    (
        "a secret is missing at the start",
        "the other apps run; it is used as soon as it is there, without a reload",
        &["reload::an_app_whose_secret_is_missing_fails_alone_until_it_is_there"],
    ),
    (
        "a secret disappears",
        "the previous one is used until the file can be read again",
        &["access::a_secret_that_is_refused_is_not_sent_again_until_it_changes"],
    ),
];

const TIME: Rows = &[
    (
        "the clock jumps while the exporter runs: 1 or 2 days, 2 or 100 years ahead, 2 or 20 days, 10 years back",
        "no archived day is changed or deleted, the sentence says to check the clock, and all is right again with the clock",
        &[
            "system::a_clock_that_jumps_changes_no_archived_day_and_the_page_is_right_again_afterwards",
        ],
    ),
    (
        "the exporter starts with such a clock",
        "the same, and no day is reported as lost",
        &[
            "system::a_clock_that_jumps_changes_no_archived_day_and_the_page_is_right_again_afterwards",
        ],
    ),
    (
        "the clocks of the exporter and of WeChat are both wrong",
        "the day from the future is hidden once the clock is right",
        &["faults::a_day_requested_by_a_wrong_clock_is_hidden_when_the_clock_is_corrected"],
    ),
    (
        "the archive has a day from the future",
        "it is not the newest day of the page",
        &["engines::sqlite::a_day_that_is_not_over_is_not_the_newest"],
    ),
    (
        "the retention is applied with a wrong clock",
        "at least the newest days stay",
        &[
            "archive::sqlite::tests::days_beyond_the_retention_are_deleted_in_slices_and_their_space_is_given_back",
        ],
    ),
    (
        "the clock is set back",
        "days are requested nevertheless",
        &["poll::due::tests::a_clock_that_was_set_back_does_not_prevent_requests"],
    ),
    (
        "the clocks of the exporter and of WeChat differ around midnight",
        "no day is requested that one of them would refuse",
        &["poll::due::tests::around_midnight_no_day_is_requested_that_another_clock_would_refuse"],
    ),
    (
        "any time zone, one with daylight saving, one that does not exist",
        "the same Beijing days and the same figures",
        &["system::every_time_zone_has_the_same_days"],
    ),
];

const STORAGE: Rows = &[
    (
        "the disk is full, at the start or later",
        "portraits are shown and wait in memory; they are stored once there is room",
        &[
            "storage::a_full_disk_costs_no_portrait_and_is_reported_until_there_is_room",
            "archive::sqlite::tests::a_full_disk_is_reported_and_loses_nothing",
        ],
    ),
    (
        "the disk is read-only",
        "portraits are shown and wait in memory; they are stored once it is writable",
        &["storage::a_read_only_disk_costs_no_portrait_and_is_reported_until_it_is_writable"],
    ),
    (
        "the directory is missing, as one that is not mounted yet",
        "the exporter serves from memory, says so on its pages, and logs it once",
        &["archive::without_an_archive_it_serves_from_memory_and_says_so"],
    ),
    (
        "another program holds the file locked",
        "portraits are shown, and stored later; readers go on",
        &[
            "archive::answers_are_shown_while_the_archive_is_locked_and_stored_later",
            "archive::waiting_answers_are_stored_although_nothing_is_due",
        ],
    ),
    (
        "the file is deleted while it is in use, with or without its companions",
        "it is noticed within a second, and all that is still open is written again",
        &[
            "storage::the_page_and_the_newest_day_survive_whatever_happens_to_the_file",
            "archive::sqlite::tests::a_file_that_is_deleted_while_it_is_in_use_is_written_again",
        ],
    ),
    (
        "the file is replaced while it is in use",
        "the new file is used, and gets the days that it lacks",
        &[
            "storage::the_page_and_the_newest_day_survive_whatever_happens_to_the_file",
            "archive::sqlite::tests::a_file_that_is_replaced_while_it_is_in_use_is_used_and_gets_the_days_it_lacks",
        ],
    ),
    (
        "the file is truncated while it is in use",
        "a new one is started with what is known, and the page stays",
        &[
            "storage::the_page_and_the_newest_day_survive_whatever_happens_to_the_file",
            "archive::sqlite::tests::a_file_that_is_truncated_while_it_is_in_use_is_started_again",
        ],
    ),
    (
        "the write-ahead log (`-wal`) is taken away",
        "its days are still open, and are written again",
        &[
            "storage::the_page_and_the_newest_day_survive_whatever_happens_to_the_file",
            "archive::sqlite::tests::a_file_that_is_deleted_while_it_is_in_use_is_written_again",
        ],
    ),
    (
        "the index of the log (`-shm`) is truncated while it is in use",
        "the program ends by SIGBUS; the next start has every day",
        &["storage::a_truncated_index_of_the_log_ends_the_program_and_costs_no_day"],
    ),
    (
        "one page of the file is damaged",
        "the file is set aside, and every day that is not on that page is copied",
        &["archive::sqlite::tests::a_bad_page_costs_only_what_is_on_it"],
    ),
    (
        "days are lost with a part of the file",
        "they are gaps in the status and on the page, after every restart",
        &[
            "storage::days_that_are_lost_with_a_part_of_the_file_are_shown_as_gaps_after_every_restart",
        ],
    ),
    (
        "the file is not a database",
        "it is set aside, not deleted, and a new one is started",
        &["archive::a_damaged_archive_is_set_aside_and_not_deleted"],
    ),
    (
        "`export` or `import` meets a damaged file",
        "it says so, and leaves the file to the exporter",
        &["archive::sqlite::tests::another_program_does_not_set_a_damaged_file_aside"],
    ),
    (
        "the program is killed while it copies a damaged file",
        "the copy continues after the restart",
        &["archive::sqlite::tests::an_interrupted_copy_continues_after_a_restart"],
    ),
    (
        "a row has a date, a time or a number out of range",
        "it does not hide other days or other apps",
        &["archive::sqlite::tests::a_row_with_values_out_of_range_does_not_hide_others"],
    ),
    (
        "an archived response is damaged",
        "the other days are shown; a day that WeChat still has is requested again",
        &[
            "archive::a_damaged_answer_does_not_hide_the_others",
            "archive::a_damaged_answer_whose_figures_are_known_is_requested_again",
        ],
    ),
    (
        "a second exporter on the same archive",
        "it is refused with the name of the directory, also after the directory was emptied",
        &["program::a_second_exporter_on_the_same_archive_is_refused"],
    ),
    (
        "another program reads the file",
        "it does not take the log away when it ends",
        &["archive::sqlite::tests::a_program_that_reads_at_the_same_time_does_not_remove_the_log"],
    ),
    (
        "the archive is of a newer version, or of another program",
        "the start is refused, and the file stays as it is",
        &[
            "archive::an_archive_of_a_newer_version_is_left_to_the_operator",
            "archive::sqlite::tests::an_unknown_schema_is_refused_with_its_number",
        ],
    ),
    (
        "an archive of the first version, and kills while it is converted",
        "every day can be read at any time",
        &[
            "archive::sqlite::tests::an_archive_of_the_first_version_is_converted_in_slices_and_complete_at_any_time",
        ],
    ),
    (
        "the program is killed at any time, four hundred times",
        "everything that was on the page is in the archive",
        &["kill::four_hundred_kills_lose_no_answer_that_was_on_the_page"],
    ),
    (
        "the program is killed at any time, ten thousand times",
        "the same, in the long run",
        &["kill::ten_thousand_kills_lose_no_answer_that_was_on_the_page"],
    ),
    (
        "WeChat cannot be reached after a restart",
        "the page is the same as before, in less than a second",
        &["archive::a_killed_exporter_shows_the_same_users_without_wechat"],
    ),
    (
        "the archive is slow while people open pages",
        "pages say so after a moment",
        &["pages_history::pages_do_not_wait_long_for_a_slow_archive"],
    ),
    (
        "other users of the host",
        "they cannot read the archive",
        &["archive::a_copy_made_while_the_exporter_runs_is_complete"],
    ),
];

const DATABASE: Rows = &[
    (
        "the database is away",
        "the page stays, the apps that were held are polled, and responses wait",
        &["replicas::while_the_database_is_away_the_page_stays_and_answers_wait"],
    ),
    (
        "the database is killed",
        "it is reached again without a restart",
        &["postgres::a_server_that_was_killed_is_reached_again"],
    ),
    (
        "the database cannot be used: password, name, port, TLS, read-only",
        "a sentence for each, without user and password",
        &[
            "postgres::what_fails_is_described_for_operators",
            "postgres::tls_is_used_and_verified_as_sslmode_says",
        ],
    ),
    (
        "one of two exporters dies",
        "the other one polls its apps after the lease, and no day is missing",
        &[
            "replicas::an_exporter_that_dies_is_replaced_after_its_lease_and_comes_back_as_a_standby",
        ],
    ),
    (
        "two exporters poll an app at the same time",
        "an older response does not replace a newer one, and nothing is confirmed by being written twice",
        &[
            "replicas::an_older_answer_does_not_replace_a_newer_one_of_another_exporter",
            "replicas::an_answer_that_is_written_twice_confirms_nothing",
        ],
    ),
    (
        "a lease is lost during a poll",
        "the poll ends after the request in flight",
        &["followers::a_lease_that_is_lost_during_a_poll_ends_it_after_the_request_in_flight"],
    ),
];

const CLIENTS: Rows = &[
    (
        "clients connect and say nothing, or send a head byte by byte",
        "each is disconnected after 25 seconds",
        &["server::a_connection_that_is_not_used_is_closed"],
    ),
    (
        "2,000 idle connections, and all file descriptors used up (`ulimit -n 64` and `1024`)",
        "scrapes and `/-/healthy` are answered all the time",
        &["server::idle_connections_keep_nobody_out"],
    ),
    (
        "1,000 connections with garbage, endless lines, or responses that nobody reads",
        "memory grows by less than 32 MiB",
        &["server::hostile_connections_cost_little"],
    ),
    (
        "malformed requests, 1 MiB of URL, 5,000 headers",
        "they are refused, and nothing of them is repeated or logged",
        &["server::malformed_requests_are_refused_and_nothing_of_them_is_repeated"],
    ),
    (
        "hundreds of pages are loaded at once",
        "all are answered, and scrapes meanwhile",
        &["server::pages_are_all_answered_when_hundreds_are_loaded_at_once_and_scrapes_meanwhile"],
    ),
    (
        "clients that never read while the exporter is to end",
        "it ends in seconds",
        &[
            "server::unfinished_requests_do_not_delay_the_end",
            "program::it_ends_while_a_client_does_not_read",
        ],
    ),
    (
        "a page of another site sends `POST /-/reload`",
        "it is refused with 403",
        &["proxy::a_page_of_another_site_cannot_reload_the_configuration"],
    ),
    (
        "another site shows the pages in a frame, or they contain markup of others",
        "they are not framed, load nothing from elsewhere, and names are escaped",
        &[
            "proxy::pages_load_nothing_from_elsewhere_and_are_not_framed",
            "pages::two_hundred_odd_names_are_shown_as_they_are",
        ],
    ),
    (
        "many wrong passwords",
        "who has the right one is answered",
        &["protection::many_wrong_passwords_do_not_keep_others_out"],
    ),
    (
        "the web configuration becomes invalid",
        "nothing is served until it is valid again",
        &["protection::nothing_is_served_while_the_web_configuration_is_invalid"],
    ),
    (
        "clients stop reading the file of an app",
        "others get theirs, and a file that breaks off does not look complete",
        &[
            "pages_history::clients_that_do_not_read_leave_room_when_they_disconnect",
            "pages_history::a_file_that_cannot_be_read_to_its_end_does_not_look_complete",
        ],
    ),
];

const OPERATION: Rows = &[
    (
        "a storm of 1,000 SIGHUPs",
        "every scrape meanwhile is right, and no request is sent because of it",
        &["system::a_storm_of_hangups_disturbs_no_scrape_and_sends_no_request"],
    ),
    (
        "many reloads at once",
        "all are answered",
        &["reload::reloads_that_come_all_at_once_are_all_answered"],
    ),
    (
        "reloads while an operator has to resolve something",
        "the app is not asked earlier",
        &[
            "reload::what_an_operator_must_resolve_is_not_polled_again_by_reloads_but_with_another_access",
        ],
    ),
    (
        "scrapes while apps and settings change dozens of times",
        "each is complete, and no counter falls",
        &["reload::every_scrape_is_complete_while_apps_and_settings_change_dozens_of_times"],
    ),
    (
        "the configuration is invalid, empty or missing at a reload",
        "500 with file, line and reason; nothing changes",
        &["reload::an_invalid_configuration_is_refused_with_its_reason_and_changes_nothing"],
    ),
    (
        "the configuration is a named pipe, a device or a directory",
        "it is refused at once, at the start and at a reload",
        &[
            "config::tests::a_configuration_that_is_not_a_file_is_refused_at_once",
            "config::files::tests::only_regular_files_up_to_the_limit_are_read",
            "reload::a_reload_does_not_wait_for_a_named_pipe",
        ],
    ),
    (
        "a pattern of `apps_files` matches the whole disk",
        "it is refused after a limited search",
        &["config::files::tests::a_pattern_with_too_much_to_search_is_refused"],
    ),
    (
        "a disk or share with the configuration hangs",
        "the reload fails after ten seconds, the next one works, and threads are not used up",
        &[
            "commands::serve::tests::a_read_that_hangs_fails_and_the_next_one_works",
            "commands::serve::tests::reads_that_hang_do_not_use_up_the_threads",
        ],
    ),
    (
        "YAML with deep nesting, or in another encoding",
        "it is refused with its line",
        &[
            "config::yaml_errors::tests::deep_nesting_is_refused",
            "config::validate::tests::a_file_in_another_encoding_is_reported_with_its_line",
        ],
    ),
    (
        "a secret stands in the configuration by mistake",
        "no message repeats it",
        &["config::tests::no_message_repeats_a_secret_that_is_in_the_file_by_mistake"],
    ),
    (
        "SIGTERM and SIGINT, while WeChat hangs or reloads are under way",
        "the program ends in seconds",
        &[
            "program::sigterm_and_sigint_end_it_at_once",
            "program::it_ends_while_wechat_hangs",
            "reload::it_ends_while_it_is_reloaded_repeatedly",
        ],
    ),
    (
        "whoever reads the log stops reading",
        "nothing else stops",
        &["program::a_reader_of_the_log_that_stops_reading_stops_nothing_else"],
    ),
    (
        "standard input, output and error are closed or full",
        "the exporter serves",
        &["system::it_serves_with_its_standard_files_closed_or_full"],
    ),
    (
        "the port is in use",
        "the start fails with the address and the flag",
        &["program::a_port_in_use_is_named"],
    ),
    (
        "little address space (`ulimit -v`, 800 MiB, 20 apps)",
        "the exporter serves every app",
        &["system::little_address_space_is_enough"],
    ),
    (
        "no thread may be started (`ulimit -u 1`)",
        "the start fails with the reason",
        &["system::without_threads_it_ends_at_once_and_names_the_reason"],
    ),
    (
        "150 apps in three windows without WeChat, 20 with it",
        "less than 96 MiB and 32 threads",
        &["system::hundreds_of_apps_in_all_windows_cost_little_memory_and_few_threads"],
    ),
];

const TRANSFER: Rows = &[
    (
        "hostile lines: binary, nested, a gzip bomb, numbers and dates out of range, every key of a wrong type",
        "each is named with its line, and nothing is imported",
        &["transfer::hostile_lines_are_refused_and_nothing_is_imported"],
    ),
    (
        "invalid files among valid ones",
        "nothing is imported, and at most twenty problems are listed",
        &["transfer::invalid_files_change_nothing"],
    ),
    (
        "a line or a response of more than 8 MiB",
        "no more of it is read",
        &["transfer::a_line_that_is_too_long_is_not_read"],
    ),
    (
        "an import without end",
        "it stops before it fills the disk",
        &[
            "commands::import::tests::an_import_stops_before_it_fills_the_disk",
            "commands::import::tests::an_import_stops_while_it_reads_when_the_disk_becomes_full",
        ],
    ),
    (
        "an import is interrupted",
        "it leaves nothing behind",
        &["transfer::an_import_that_is_interrupted_leaves_nothing"],
    ),
    (
        "an import and an export while the exporter runs",
        "both work, and the exporter shows the new days",
        &["transfer::both_work_while_the_exporter_runs"],
    ),
    (
        "an export fails",
        "the file of the last one stays",
        &["transfer::an_export_that_fails_does_not_change_the_file_of_the_last_one"],
    ),
    (
        "the standard output of an export is closed",
        "exit code 1 and the reason",
        &["transfer::an_export_to_a_closed_output_fails"],
    ),
    (
        "rows with any dates in the archive",
        "no export stops at them",
        &["transfer::no_date_whatever_stops_an_export"],
    ),
];

fn rows(rows: Rows) -> Vec<Row> {
    let rows = rows.iter().map(|(fault, holds, tests)| Row {
        fault: (*fault).to_owned(),
        holds: (*holds).to_owned(),
        tests: tests.to_vec(),
    });
    rows.collect()
}

/// Returns what the document says about a rule: reason, pause and sentence.
fn described(reason: Reason, retry: Retry, advice: Advice) -> String {
    let retry = match retry {
        Retry::NextPoll => "polled again as usual".to_owned(),
        Retry::Soon => "repeated three times".to_owned(),
        Retry::NewToken => "repeated once with a new token".to_owned(),
        Retry::OtherDay => "that day is not requested again".to_owned(),
        Retry::After(pause) => format!("not polled for {}", humantime::format_duration(pause)),
        Retry::Tomorrow => "not polled before midnight in Beijing".to_owned(),
    };
    let advice = advice.text.replace("{ip}", "the address");
    format!("`{reason}`, {retry}: “{advice}”")
}

/// Returns a row for every rule about WeChat's error codes.
fn errcodes() -> Vec<Row> {
    let listed = |errcodes: &[i64]| {
        let errcodes: Vec<String> = errcodes.iter().map(ToString::to_string).collect();
        errcodes.join(", ")
    };
    let rules = RULES.iter().map(|rule| Row {
        fault: format!("errcode {}", listed(rule.errcodes)),
        holds: described(rule.reason, rule.retry, rule.advice),
        tests: ERRCODES.to_vec(),
    });
    let of_secret = Row {
        fault: format!(
            "errcode {} for the AppSecret",
            listed(APP_SECRET_REFUSED.errcodes)
        ),
        holds: described(
            APP_SECRET_REFUSED.reason,
            APP_SECRET_REFUSED.retry,
            APP_SECRET_REFUSED.advice,
        ),
        tests: vec![ERRCODES[0], ERRCODES[2]],
    };
    let exceptions = EXCEPTIONS.iter().map(|exception| {
        let (access, test) = match exception.credential {
            Credential::GivenToken => (
                "a token of `token_file`, `token_url` or `token_command`",
                "access::a_token_file_is_read_for_every_poll",
            ),
            Credential::CloudHosting => ("`cloud_hosting`", "access::cloud_hosting_adds_the_token"),
            Credential::PortraitUrl => (
                "`portrait_url`",
                "access::a_portrait_url_may_use_any_known_envelope_and_spelling",
            ),
            other => panic!("{other:?}"),
        };
        let rule = rule(exception.credential, exception.errcodes[0]);
        // There is no other token for these.
        let retry = match (exception.credential, rule.retry) {
            (Credential::GivenToken, retry) => retry,
            _ => Retry::NextPoll,
        };
        Row {
            fault: format!("errcode {} with {access}", listed(exception.errcodes)),
            holds: described(rule.reason, retry, exception.advice),
            tests: vec![test],
        }
    });
    rules.chain([of_secret]).chain(exceptions).collect()
}

/// Returns the rows of a part of the upstream.
fn of(part: Part) -> Vec<Row> {
    let faults = upstream::faults().into_iter();
    let rows = faults.filter(|fault| fault.part == part).map(
        |Fault {
             what,
             reason,
             words,
             ..
         }| Row {
            fault: what.to_owned(),
            holds: format!("`{reason}`: “{words}”"),
            tests: vec![UPSTREAM],
        },
    );
    rows.collect()
}

fn oddities() -> Vec<Row> {
    let oddities = upstream::oddities().into_iter();
    let rows = oddities.map(|Oddity { what, holds, .. }| Row {
        fault: what.to_owned(),
        holds: holds.to_owned(),
        tests: vec![UPSTREAM],
    });
    rows.collect()
}

/// Returns all faults, in the order of the document.
fn areas() -> Vec<Area> {
    let mut host = of(Part::Host);
    host.extend(rows(PROGRAMS));
    vec![
        ("errcodes", errcodes()),
        ("connections", of(Part::Connection)),
        ("answers", of(Part::Http)),
        ("contents", of(Part::Contents)),
        ("oddities", oddities()),
        ("tokens", of(Part::Token)),
        ("host", host),
        ("polls", rows(POLLS)),
        ("time", rows(TIME)),
        ("storage", rows(STORAGE)),
        ("database", rows(DATABASE)),
        ("clients", rows(CLIENTS)),
        ("operation", rows(OPERATION)),
        ("transfer", rows(TRANSFER)),
    ]
}

fn table(rows: &[Row]) -> String {
    let mut table = "| fault | what holds | test |\n|---|---|---|\n".to_owned();
    for Row {
        fault,
        holds,
        tests,
    } in rows
    {
        let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        let holds = holds.replace('<', "&lt;");
        writeln!(table, "| {fault} | {holds} | {} |", tests.join(", ")).unwrap();
    }
    table
}

#[test]
fn the_document_of_reliability_lists_every_fault() {
    let areas = areas();
    let count: usize = areas.iter().map(|(_, rows)| rows.len()).sum();
    assert!(count >= 60, "{count}");
    let mut faults = BTreeSet::new();
    let mut parts = Vec::new();
    for (area, rows) in &areas {
        for Row {
            fault,
            holds,
            tests,
        } in rows
        {
            let text = format!("{fault}{holds}");
            assert!(!text.contains(['|', '\n']), "{text}");
            assert!(!tests.is_empty() && !holds.is_empty(), "{fault}");
            assert!(
                faults.insert((*area, fault.clone())),
                "{fault} is there twice"
            );
        }
        parts.push((*area, table(rows)));
    }
    parts.push((
        "number",
        format!("There are {count} faults in these tables. Each names the tests that prove it.\n"),
    ));
    assert_fresh(
        "docs/reliability.md",
        &with_parts("docs/reliability.md", &parts),
    );
}

/// A test, as it is written.
enum Found {
    Ordinary,
    Ignored,
}

/// Returns whether a function is a test.
fn found(function: &ItemFn) -> Option<Found> {
    let is = |name: &str| {
        let is_called = |attribute: &Attribute| {
            let segments = &attribute.path().segments;
            segments.last().is_some_and(|segment| segment.ident == name)
        };
        function.attrs.iter().any(is_called)
    };
    let found = if is("ignore") {
        Found::Ignored
    } else {
        Found::Ordinary
    };
    is("test").then_some(found)
}

/// Finds a test among items, by the modules that are left of its path.
fn find(items: &[Item], path: &[&str]) -> Option<Found> {
    let (last, modules) = path.split_last()?;
    items.iter().find_map(|item| match item {
        Item::Fn(function) if modules.is_empty() && function.sig.ident == last => found(function),
        Item::Mod(module) if modules.first().is_some_and(|name| module.ident == name) => {
            find(&module.content.as_ref()?.1, &path[1..])
        }
        // It makes one test of a function for each of its modules.
        Item::Macro(call) if call.mac.path.is_ident("in_both_engines") => {
            let text = call.mac.tokens.to_string();
            text.contains(&format!("fn {last} "))
                .then_some(Found::Ordinary)
        }
        _ => None,
    })
}

/// Returns the items of files, each of which is parsed once.
#[derive(Default)]
struct Sources(BTreeMap<PathBuf, Vec<Item>>);

impl Sources {
    /// Finds a test by the name with which `cargo test` lists it.
    fn find(&mut self, test: &str) -> Option<Found> {
        let path: Vec<&str> = test.split("::").collect();
        ["tests/exporter", "src"].iter().find_map(|top| {
            (1..path.len()).rev().find_map(|length| {
                let (modules, rest) = path.split_at(length);
                let stem = format!("{top}/{}", modules.join("/"));
                let mut files = [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter();
                let file = files.find(|file| root().join(file).is_file())?;
                let items = self.0.entry(file.clone().into());
                let items = items.or_insert_with(|| source::file(&file).items);
                find(items, rest)
            })
        })
    }
}

#[test]
fn every_test_of_a_fault_exists_and_belongs_to_every_run() {
    let mut sources = Sources::default();
    let mut problems = Vec::new();
    for row in areas().into_iter().flat_map(|(_, rows)| rows) {
        for test in row.tests {
            match sources.find(test) {
                Some(Found::Ordinary) => {}
                Some(Found::Ignored) if row.holds.contains(IN_THE_LONG_RUN) => {}
                Some(Found::Ignored) => problems.push(format!("{test} is ignored")),
                None => problems.push(format!("{test} does not exist")),
            }
        }
    }
    problems.dedup();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    for missing in [
        "reliability::no_such_test",
        "reliability::table",
        "no_such_module::tests::x",
        "engines::sqlite::no_such_test",
    ] {
        assert!(sources.find(missing).is_none(), "{missing}");
    }
    assert!(matches!(
        sources.find("kill::ten_thousand_kills_lose_no_answer_that_was_on_the_page"),
        Some(Found::Ignored)
    ));
}
