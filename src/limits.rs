//! Every bound of the agent with the reason for its number.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Requests that may wait for the store's thread. Each is one tick or one step of a submission; a fleet of
/// sources ticking at once stays below it, and a stuck disk makes callers wait instead of filling memory.
pub const STORE_QUEUE: usize = 64;

/// Rounds of retention to one look for data keys that seal nothing: it reads the whole store, so once a day.
pub const PRUNES_PER_SWEEP: u32 = 24;

/// Damaged records of one run that the log names; more are counted.
pub const RECORDS_TOLD_MAX: u32 = 20;

/// Data keys of the store that are held opened: the windows are read in order, so that few change places.
pub const DATA_KEYS_OPEN_MAX: usize = 16;

/// Newest data keys that the store's key is tried on. One that opens is enough; damage hits few.
pub const DATA_KEYS_CHECKED_MAX: u32 = 64;

/// Longest file of the identity that is read; sealed keys have a few hundred bytes, and room for those to come.
pub const IDENTITY_BYTES_MAX: u64 = 4096;

/// Longest answer of a dashboard that is read. Acceptances are a few hundred bytes, problems a few thousand.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long one attempt may take, connection included. Slow links send a body of 1 MB in this time.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may take to be set up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of a session may take: less than a shutdown has, and a session that is not ended expires.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Redirects within one server that a collector's question follows: from `/metrics` to `/metrics/`, and one to spare.
pub const REDIRECTS_MAX: usize = 2;

/// The first pause after a failed attempt.
pub const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest pause between two attempts; the number of attempts has no limit.
pub const RETRY_CEILING: Duration = Duration::from_secs(15 * 60);

/// The pause after a failure of the store: a disk that was full may have room again at any time.
pub const STORE_RETRY: Duration = Duration::from_secs(5);

/// Longest text of a dashboard's answer that is kept and logged. Every submission keeps its last answer for ever.
pub const ANSWER_TEXT_MAX: usize = 1000;

/// Before this the clock has not been set: the program is younger. Boards without a battery begin in 1970.
pub const CLOCK_SET_AFTER: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// How often a clock that has not been set is looked at.
pub const CLOCK_LOOK: Duration = Duration::from_secs(2);

/// How long after the start old data is first removed: time to put right a clock that is ahead.
pub const PRUNE_FIRST: Duration = Duration::from_secs(10 * 60);

/// A submission older than this is no longer live (specification, section X).
pub const LIVE_FOR: SignedDuration = SignedDuration::from_mins(30);

/// Every n-th send is taken from the backlog even while live submissions wait, so that neither starves.
pub const BACKLOG_SHARE: u64 = 4;

/// Largest spread of the agents of a fleet after the end of a slot.
pub const SLOT_JITTER_MAX: Duration = Duration::from_secs(90);

/// Most slots of one category that are marked as missed at a start: 90 days of five-minute slots.
pub const MISSED_SLOTS_MAX: usize = 90 * 288;

/// The submit loop looks up at least this often, so that a step of the clock is noticed.
pub const SUBMIT_WAKE: Duration = Duration::from_secs(15);

/// How often the supervisor checks the sources and the store.
pub const SUPERVISE_EVERY: Duration = Duration::from_secs(10);

/// A loop that made no progress for this long is stuck; the watchdog is not fed any more. It is longer than
/// the longest step between two signs of life, and does not follow `WatchdogSec=`, so that a short one finds a
/// frozen process sooner and never calls a slow one stuck. systemd acts at most this and `WatchdogSec=` later.
pub const PROGRESS_WITHIN: Duration = Duration::from_secs(45);
const _: () = assert!(
    PROGRESS_WITHIN.as_secs() > ATTEMPT_TIMEOUT.as_secs() + SUPERVISE_EVERY.as_secs()
        && PROGRESS_WITHIN.as_secs() > SUBMIT_WAKE.as_secs() + SUPERVISE_EVERY.as_secs()
);

/// Signs of life for each `WatchdogSec=`: one may come late on a busy host, and one more be lost.
pub const FEEDS_PER_WATCHDOG: u32 = 3;

/// The second tick of a source comes this soon after the first, so that counters make amounts at once.
pub const SECOND_TICK: Duration = Duration::from_millis(500);

/// A source that gave nothing and is not at work on anything is looked at in every so many intervals: most
/// sources that scan or watch a file have nothing to say for hours.
pub const QUIET_TICKS: u32 = 2;

/// First pause before a failed source is opened again.
pub const REOPEN_FIRST: Duration = Duration::from_secs(5);

/// Longest pause before a failed source is opened again.
pub const REOPEN_CEILING: Duration = Duration::from_secs(10 * 60);

/// How long a shutdown may take to send what is ready.
pub const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// Threads for collectors that block, and one for each feed of model servers. A hung source keeps one until the kernel
/// lets it go. They are made when they are needed.
pub const BLOCKING_THREADS: usize = 16 + 32;

/// Threads that one source may have at a time: one that hangs, and one to try again with. A source that hangs
/// for ever must not take the threads of the others one by one.
pub const THREADS_OF_A_SOURCE: usize = 2;

/// How long a category's first submission waits for a source that has not spoken. After that it speaks without
/// it; a first scan that lasts longer is in the next slot.
pub const FIRST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// Witnesses besides the dashboard: each costs a task, and about 0.8 KB of the store for each head that it signs.
pub const WITNESSES_MAX: usize = 8;

/// How long after the start a witness is first shown a head, at most: the agents of a fleet are restarted together.
pub const WITNESS_FIRST: Duration = Duration::from_secs(30);

/// Leaves that tell of changes of one source in an hour. A source that flaps must not fill the ledger: at 500
/// bytes a leaf this is at most 48 KB a day for each.
pub const SOURCE_LEAVES_PER_HOUR: usize = 4;

/// Leaves that tell of steps of the clock in an hour.
pub const CLOCK_LEAVES_PER_HOUR: usize = 4;

/// A step of the wall clock against the time since boot that is worth a leaf. Slewing stays far below.
pub const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(2);

/// After this long without a leaf of a slot the submit loop writes a `heartbeat`, and asks for a receipt over it,
/// so that an hour of silence is a finding. It costs an agent of daily categories only 24 leaves, or 12 KB, a day,
/// and others nothing.
pub const HEARTBEAT_AFTER: Duration = Duration::from_secs(60 * 60);

/// How often old readings and bodies are removed.
pub const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Values that are held in memory while there is no disk to write them to: some megabytes, and a day of a host with
/// fifty readings a minute.
pub const HELD_VALUES_MAX: usize = 50_000;

/// How long `status` shows a store as degraded that was damaged and has been healed.
pub const DAMAGE_SHOWN_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Longest status answer that the `status` command reads.
pub const STATUS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long an idle thread for collectors stays: longer than the usual interval, so that a tick finds one.
pub const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Between two questions for the heirs of the dashboard's key: one that it will not explain is no reason to ask at
/// each receipt.
pub const SUCCESSORS_ASKED_AFTER: Duration = Duration::from_secs(60 * 60);

/// How often a source is asked what it wants back after a restart: what it has done since is done again.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Longest checkpoint of a source; a longer one is not kept, and the source begins anew after a restart.
pub const CHECKPOINT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long submissions carry the signature of a replaced request key beside the new one's: a dashboard that is
/// put back to the backup of the night loses nothing.
pub const KEY_OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// Longest command, and longest answer to one.
pub const CONTROL_BYTES_MAX: u64 = 64 * 1024;
