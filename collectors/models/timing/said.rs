//! One line of llama.cpp, recognised from its beginning.

use jiff::Timestamp;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::models::scan::Scan;

/// A task of a process: its number counts the tasks since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The port of the process, behind a router.
    pub(crate) port: Option<u16>,
    /// The slot that works on it; servers of 2023 say none, they wrote one task after the other.
    pub(crate) slot: Option<u32>,
    /// Its number.
    pub(crate) number: Option<u64>,
}

impl Task {
    /// Whether it has the number of the other, in the same process.
    pub(super) fn is_same_number(self, other: Self) -> bool {
        (self.port, self.number) == (other.port, other.number)
    }
}

/// What a line says about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The task; a line of a block belongs to the task of the block's first line.
    pub(crate) task: Option<Task>,
    /// What it says.
    pub(crate) what: What,
    /// Whether this generation releases a slot after it wrote the times.
    pub(crate) is_released_later: bool,
}

/// What lines about tasks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The lines that follow belong to this task.
    Header,
    /// Input tokens that were not cached.
    Evaluated { tokens: u64, us: u64 },
    /// Output tokens.
    Generated { tokens: u64, us: u64 },
    /// Output tokens of servers of 2023, which do not count the first one as generated.
    Sampled { tokens: u64 },
    /// The task is done. The log's own time, where it has one.
    Total {
        us: u64,
        tokens: Option<u64>,
        at: Option<Timestamp>,
    },
    /// All input tokens.
    Prompt { tokens: u64 },
    /// The task begins.
    Launched { is_child: bool },
    /// What the slot holds at the end; not whole where its beginning was given up.
    Released { tokens: u64, is_whole: bool },
    /// Nobody waits for the answer any more.
    Cancelled,
}

/// Width of the column of functions.
const FUNCTION: usize = 12;

/// Digits of slots and tasks.
const NUMBER_MAX: usize = 10;

/// Reads a line without prefix; `port` is the process behind a router.
pub(crate) fn said(text: &[u8], port: Option<u16>) -> Option<Said> {
    match text.first()? {
        b's' => slot(text, port).or_else(|| cancelled(text, port)),
        b'p' => block(text).or_else(|| of_2023(text, b"print_timings: ")),
        b' ' => block(text),
        b'I' => of_2024(text, port),
        b'{' => json(text, port),
        b'l' => of_2023(text, b"llama_print_timings: "),
        _ => None,
    }
}

/// `slot print_timing: id  0 | task 70 | …`, since autumn 2024.
fn slot(text: &[u8], port: Option<u16>) -> Option<Said> {
    let mut scan = Scan::new(text);
    scan.literal(b"slot ")?;
    let (function, rest) = scan.rest().split_at_checked(FUNCTION)?;
    let function = function.trim_ascii_start();
    if !matches!(
        function,
        b"print_timing" | b"release" | b"launch_slot_" | b"update_slots" | b"operator()"
    ) {
        return None;
    }
    let mut scan = Scan::new(rest);
    scan.literal(b": id ")?;
    scan.blanks();
    let slot = Some(u32::try_from(scan.digits(NUMBER_MAX)?).ok()?);
    scan.literal(b" | task ")?;
    let number = Some(scan.digits(NUMBER_MAX)?);
    scan.literal(b" |")?;
    scan.blanks();
    let task = Task { port, slot, number };
    let what = match function {
        b"print_timing" if scan.rest().is_empty() => What::Header,
        b"print_timing" => measure(&mut scan)?,
        b"release" => released(&mut scan)?,
        b"launch_slot_" => launched(&mut scan)?,
        _ => prompt(&mut scan)?,
    };
    Some(Said {
        task: Some(task),
        what,
        is_released_later: true,
    })
}

/// `stop processing: n_tokens = 631, truncated = 0`, or `n_past` in 2025.
fn released(scan: &mut Scan<'_>) -> Option<What> {
    scan.literal(b"stop processing: n_")?;
    scan.literal(b"tokens = ")
        .or_else(|| scan.literal(b"past = "))?;
    let tokens = scan.digits(NUMBER_MAX)?;
    scan.literal(b", truncated = ")?;
    let is_whole = scan.digits(1)? == 0;
    Some(What::Released { tokens, is_whole })
}

/// `processing task`, since 2026 with `, is_child = 0`.
fn launched(scan: &mut Scan<'_>) -> Option<What> {
    scan.literal(b"processing task")?;
    let is_child = scan.literal(b", is_child = ").is_some() && scan.digits(1)? != 0;
    Some(What::Launched { is_child })
}

/// `new prompt, n_ctx_slot = 4096, n_keep = 4, task.n_tokens = 512`, or `n_prompt_tokens` in 2025.
fn prompt(scan: &mut Scan<'_>) -> Option<What> {
    scan.literal(b"new prompt, n_ctx_slot = ")?;
    scan.digits(NUMBER_MAX)?;
    scan.literal(b", n_keep = ")?;
    let _ = scan.literal(b"-");
    scan.digits(NUMBER_MAX)?;
    scan.literal(b", ")?;
    scan.literal(b"task.n_tokens = ")
        .or_else(|| scan.literal(b"n_prompt_tokens = "))?;
    let tokens = scan.digits(NUMBER_MAX)?;
    Some(What::Prompt { tokens })
}

/// `srv          stop: cancel task, id_task = 70`. The slot is not said.
fn cancelled(text: &[u8], port: Option<u16>) -> Option<Said> {
    let mut scan = Scan::new(text);
    scan.literal(b"srv  ")?;
    let (_, rest) = scan.rest().split_at_checked(FUNCTION)?;
    let mut scan = Scan::new(rest);
    scan.literal(b": cancel task, id_task = ")?;
    let number = Some(scan.digits(NUMBER_MAX)?);
    let slot = None;
    Some(Said {
        task: Some(Task { port, slot, number }),
        what: What::Cancelled,
        is_released_later: false,
    })
}

/// A line of the block behind a header, in 2025.
fn block(text: &[u8]) -> Option<Said> {
    let mut scan = Scan::new(text);
    scan.blanks();
    Some(Said {
        task: None,
        what: measure(&mut scan)?,
        is_released_later: false,
    })
}

/// `print_timings: prompt eval time = …`; Ollama wrote the same with a prefix of the library.
fn of_2023(text: &[u8], prefix: &[u8]) -> Option<Said> {
    let mut scan = Scan::new(text);
    scan.literal(prefix)?;
    scan.blanks();
    let what = if scan.literal(b"sample time =").is_some() {
        let (_, tokens) = spent(&mut scan)?;
        What::Sampled { tokens }
    } else {
        match measure(&mut scan)? {
            // The library counts steps here, and the first token is none; `sample time` counts all.
            What::Generated { .. } if prefix.first() == Some(&b'l') => return None,
            // Its total contains what is no part of a task.
            What::Total { us, at, .. } => What::Total {
                us,
                tokens: None,
                at,
            },
            what => what,
        }
    };
    Some(Said {
        task: Some(Task::default()),
        what,
        is_released_later: false,
    })
}

/// `INFO [           print_timings] prompt eval time     = … | tid="…" timestamp=… id_slot=0 id_task=0 …`
fn of_2024(text: &[u8], port: Option<u16>) -> Option<Said> {
    let mut scan = Scan::new(text);
    scan.literal(b"INFO [           print_timings] ")?;
    scan.blanks();
    let _ = scan.literal(b"generation ");
    let what = measure(&mut scan)?;
    let at = memmem::find(scan.rest(), b" | tid=\"")?;
    let mut scan = Scan::new(scan.rest().get(at..)?);
    scan.literal(b" | tid=\"")?;
    scan.digits(15)?;
    scan.literal(b"\" timestamp=")?;
    let at = second(scan.digits(NUMBER_MAX)?);
    scan.literal(b" id_slot=")?;
    let slot = Some(u32::try_from(scan.digits(NUMBER_MAX)?).ok()?);
    scan.literal(b" id_task=")?;
    let number = Some(scan.digits(NUMBER_MAX)?);
    Some(Said {
        task: Some(Task { port, slot, number }),
        what: stamped(what, at),
        is_released_later: false,
    })
}

/// `prompt eval time = 412.03 ms / 512 tokens (…`, `eval time = …`, `total time = …`
fn measure(scan: &mut Scan<'_>) -> Option<What> {
    if scan.literal(b"prompt eval time").is_some() {
        let (us, tokens) = equals(scan)?;
        return Some(What::Evaluated { tokens, us });
    }
    if scan.literal(b"eval time").is_some() {
        let (us, tokens) = equals(scan)?;
        return Some(What::Generated { tokens, us });
    }
    scan.literal(b"total time")?;
    scan.blanks();
    scan.literal(b"=")?;
    let us = milliseconds(scan)?;
    let tokens = counted(scan);
    let at = None;
    Some(What::Total { us, tokens, at })
}

fn equals(scan: &mut Scan<'_>) -> Option<(u64, u64)> {
    scan.blanks();
    scan.literal(b"=")?;
    spent(scan)
}

fn spent(scan: &mut Scan<'_>) -> Option<(u64, u64)> {
    let us = milliseconds(scan)?;
    Some((us, counted(scan)?))
}

fn milliseconds(scan: &mut Scan<'_>) -> Option<u64> {
    scan.blanks();
    let us = scan.decimal(3)?;
    scan.literal(b" ms")?;
    Some(us)
}

fn counted(scan: &mut Scan<'_>) -> Option<u64> {
    scan.literal(b" /")?;
    scan.blanks();
    let tokens = scan.digits(NUMBER_MAX)?;
    scan.literal(b" ")?;
    scan.literal(b"tokens").or_else(|| scan.literal(b"runs"))?;
    Some(tokens)
}

fn second(unix: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(unix).ok()?).ok()
}

fn stamped(what: What, at: Option<Timestamp>) -> What {
    match what {
        What::Total { us, tokens, .. } => What::Total { us, tokens, at },
        what => what,
    }
}

/// What `print_timings` wrote as JSON in 2024, and in Ollama with the two numbers the other way round.
#[derive(Deserialize)]
struct Json {
    #[serde(alias = "slot_id")]
    id_slot: u32,
    #[serde(alias = "task_id")]
    id_task: u64,
    timestamp: u64,
    n_prompt_tokens_processed: Option<u64>,
    n_decoded: Option<u64>,
    t_prompt_processing: Option<f64>,
    t_token_generation: Option<f64>,
    t_total: Option<f64>,
}

fn json(text: &[u8], port: Option<u16>) -> Option<Said> {
    Scan::new(text).literal(b"{\"function\":\"print_timings\",")?;
    let line: Json = serde_json::from_slice(text).ok()?;
    let what = if let Some(ms) = line.t_total {
        What::Total {
            us: microseconds(ms)?,
            tokens: None,
            at: second(line.timestamp),
        }
    } else if let Some(tokens) = line.n_decoded {
        let us = microseconds(line.t_token_generation?)?;
        What::Generated { tokens, us }
    } else {
        let tokens = line.n_prompt_tokens_processed?;
        let us = microseconds(line.t_prompt_processing?)?;
        What::Evaluated { tokens, us }
    };
    let (slot, number) = (Some(line.id_slot), Some(line.id_task));
    Some(Said {
        task: Some(Task { port, slot, number }),
        what,
        is_released_later: false,
    })
}

fn microseconds(ms: f64) -> Option<u64> {
    let time = std::time::Duration::try_from_secs_f64(ms / 1_000.0).ok()?;
    u64::try_from(time.as_micros()).ok()
}
