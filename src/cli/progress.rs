//! A line on the terminal for whatever lasts longer than two seconds.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

/// Nothing is shown for work that is done sooner.
const SHOW_AFTER: Duration = Duration::from_secs(2);

/// How often the line moves while something else is waited for.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How often the line is drawn; by looks of the caller, not by a thread.
const LOOKS_PER_SECOND: u8 = 10;

/// A progress line that appears when the work takes long. Nothing is drawn unless standard error is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(what: &str) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// Keeps the line moving until the work is done.
    pub(super) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
        let (_said, heard) = watch::channel(what.to_owned());
        Self::told(&heard, work).await
    }

    /// Keeps the line moving until the work is done, and shows what the work says last.
    pub(super) async fn told<T>(
        what: &watch::Receiver<String>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut progress = Self::new(&what.borrow());
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(DRAW_EVERY) => {
                    let line = what.borrow().clone();
                    progress.say(&line);
                }
            }
        };
        progress.finish();
        done
    }

    /// Says what is going on now.
    pub(super) fn say(&mut self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() && self.bar.elapsed() > SHOW_AFTER {
            let target = indicatif::ProgressDrawTarget::stderr_with_hz(LOOKS_PER_SECOND);
            self.bar.set_draw_target(target);
        }
        self.bar.tick();
    }

    /// Takes the line away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
