//! Stories: the real program, the real dashboard, real TLS on loopback, told as a user meets them.
//!
//! Few and end to end; everything finer is tested where it lives.

#![expect(
    clippy::disallowed_methods,
    reason = "stories start the program under test and wait in real time"
)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a story that cannot go on has failed"
)]

mod cover_the_inventory;
mod evaluate_the_product;
mod forge_a_submission;
mod keep_both_sides_honest;
mod keep_the_disk_secret;
mod keep_utc;
mod lose_nothing;
mod meet_odd_dashboards;
mod operations;
mod probe_a_model_server;
mod refuse_what_is_wrong;
mod replace_keys;
mod rotate_keys;
mod see_what_changed;
mod show_the_evidence;
#[allow(dead_code, reason = "the counterparts take the rest of it")]
mod site;
mod survive_damage;
mod tell_no_address;
mod tell_of_models;
mod trust_nobody_alone;
mod watch_a_site;
