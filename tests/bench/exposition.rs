//! How fast a metrics page is read, and with how many allocations, beside prometheus-parse in the same run.
//!
//! `cargo bench -p cms-collectors --bench exposition` makes a page of 200,000 samples (12 MB) and prints a row for
//! each reader: the best and the median of the rounds, in processor time. `-- FILE` reads a page of your own instead.
//! The page is read in pieces of 16 KiB, as it comes from the network.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints its figures and ends where it cannot"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cms_collectors::exposition::{Item, Reader};
use rustix::time::{ClockId, clock_gettime};

/// Samples of the page that is made.
const SAMPLES: usize = 200_000;

/// Bytes of one piece.
const PIECE: usize = 16 * 1024;

/// Rounds of each reader; the machine has other work.
const ROUNDS: usize = 15;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

#[expect(
    unsafe_code,
    reason = "an allocator that counts can be written in no other way"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    let file = std::env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    let page = match &file {
        Some(path) => std::fs::read_to_string(path).expect("the page can be read"),
        None => made(),
    };
    let lines = page.lines().count();
    println!(
        "page: {} bytes, {lines} lines; pieces of {PIECE} bytes; best and median of {ROUNDS} rounds",
        page.len()
    );
    println!(
        "{:<24} {:>9} {:>9} {:>12} {:>20}",
        "reader", "best MB/s", "median", "samples", "allocations/100 lines"
    );
    let ours = measure("exposition", &page, lines, read);
    let theirs = measure("prometheus-parse", &page, lines, |page| {
        let lines = page.lines().map(|line| Ok(line.to_owned()));
        let scrape = prometheus_parse::Scrape::parse(lines);
        scrape.map_or(0, |scrape| scrape.samples.len())
    });
    println!(
        "exposition over prometheus-parse: {:.1}x",
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

/// Time that this thread was running: other work on the machine does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Counts the samples and looks at every label, as a collector does that picks what it knows.
fn read(page: &str) -> usize {
    let (mut samples, mut cpus) = (0_usize, 0_usize);
    let mut on_item = |item: Item<'_>| {
        if let Item::Sample(sample) = item {
            samples += 1;
            cpus += usize::from(
                sample
                    .labels
                    .get("mode")
                    .is_some_and(|mode| mode.is("idle")),
            );
            black_box(sample.value);
        }
    };
    let mut reader = Reader::new();
    for piece in page.as_bytes().chunks(PIECE) {
        reader.feed(piece, &mut on_item);
    }
    black_box(reader.finish(&mut on_item));
    black_box(cpus);
    samples
}

/// The median time of the rounds.
fn measure(name: &str, page: &str, lines: usize, read: impl Fn(&str) -> usize) -> Duration {
    let mut times = Vec::with_capacity(ROUNDS);
    let (mut samples, mut allocations) = (0, 0);
    for _ in 0..ROUNDS {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let begun = processor_time();
        samples = black_box(read(black_box(page)));
        times.push(processor_time() - begun);
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    }
    times.sort_unstable();
    let rate = |time: Duration| page.len() as f64 / time.as_secs_f64() / 1e6;
    let median = times[times.len() / 2];
    println!(
        "{name:<24} {:>9.0} {:>9.0} {samples:>12} {:>20.3}",
        rate(times[0]),
        rate(median),
        allocations as f64 * 100.0 / lines as f64
    );
    median
}

/// A page as a large exporter has it: a few families with many series, all plain enough for both readers.
fn made() -> String {
    let mut page = String::with_capacity(SAMPLES * 64);
    let modes = [
        "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
    ];
    for family in 0..8 {
        let _ = writeln!(
            page,
            "# HELP node_family_{family}_seconds_total Seconds the CPUs spent in each mode."
        );
        let _ = writeln!(page, "# TYPE node_family_{family}_seconds_total counter");
        for series in 0..SAMPLES / 8 {
            let (cpu, mode) = (series / modes.len(), modes[series % modes.len()]);
            let value = (series * 7919 + family) as f64 / 100.0;
            let _ = writeln!(
                page,
                "node_family_{family}_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}} {value}"
            );
        }
    }
    page
}
