//! Energy of NVIDIA GPUs, from the library of their driver.
//!
//! Owns: what two looks at the boards of this machine say of its energy. Promises: a machine without the driver has no
//! such source, which is no error. Refuses: the library itself, which `crate::nvml` asks.

mod board;
mod settings;

use cms_spec::provenance::Origin;

use self::board::{Boards, Outcome};
pub(super) use self::settings::Settings;
use super::{Rung, Span, Verdict};
use crate::Host;
use crate::nvml::{Driver, Looked};

/// The rung `nvml`.
pub(super) struct Nvml {
    driver: Driver,
    boards: Boards,
}

impl Nvml {
    pub(super) fn new(settings: &Settings, host: &Host) -> Self {
        Self {
            driver: Driver::new(settings.path(), "compute.power.nvml.path", host),
            boards: Boards::default(),
        }
    }
}

impl Rung for Nvml {
    fn name(&self) -> &str {
        "nvml"
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        let boards = match self.driver.look() {
            Looked::Boards { boards, is_anew } => {
                if is_anew {
                    self.boards.forget();
                }
                boards
            }
            other => {
                self.boards.forget();
                return match other {
                    Looked::Absent(why) => Verdict::Absent(why),
                    Looked::Unusable(why) => Verdict::Invalid(why),
                    _ => Verdict::Baseline,
                };
            }
        };
        let count = boards.len();
        match (self.boards.look(boards, span.map(|span| span.over)), span) {
            (Outcome::Energy(energy), Some(span)) => Verdict::Energy {
                energy,
                over: span.over,
            },
            (Outcome::Untold, _) => Verdict::Absent(format!(
                "none of the {count} GPUs tells energy or power: they are virtual, partitions (MIG), or too old"
            )),
            _ => Verdict::Baseline,
        }
    }

    fn is_part(&self) -> bool {
        true
    }

    fn origin(&self) -> Origin {
        self.boards.origin()
    }
}
