//! `probe modbus`: what a meter holds, in all types and orders; and the tables of Telegraf in ours.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use cms_collectors::thermal::modbus::endpoint::Endpoint;
use cms_collectors::thermal::modbus::line::Manner;
use cms_collectors::thermal::modbus::plan::Limits;
use cms_collectors::thermal::modbus::probe::import::import;
use cms_collectors::thermal::modbus::probe::scan::range;
use cms_collectors::thermal::modbus::probe::{Look, Wish, look};
use cms_collectors::thermal::modbus::register::{BITS_MAX, REGISTERS_MAX};
use cms_collectors::web::Tls;
use tokio::sync::watch;

use super::super::progress::Progress;
use super::super::{CliError, ExitStatus, run};
use crate::transport::web::Outbound;

/// Longest configuration of Telegraf that is read: ten thousand points are a tenth of it.
const IMPORT_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Modbus {
    /// The way to the device: tcp://HOST:502, tcp+tls://HOST:802, rtu+tcp://HOST:PORT, or
    /// rtu:///dev/ttyUSB0?baud=9600&parity=even.
    #[arg(required_unless_present = "import", conflicts_with = "import", value_parser = endpoint)]
    url: Option<Endpoint>,

    /// Takes over the [[inputs.modbus]] of a configuration of Telegraf.
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,

    /// The number of the unit.
    #[arg(long, default_value_t = 1, conflicts_with = "units")]
    unit: u8,

    /// Which units answer, for example 1..20; with --scan also what they hold.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    units: Option<std::ops::Range<u32>>,

    /// Which addresses, counted from 0; the last one is not in it. 0..100 unless --units is given.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    scan: Option<std::ops::Range<u32>>,

    /// Which kinds of registers; both holding and input unless it is given.
    #[arg(long, value_enum)]
    kind: Vec<Kind>,

    /// What the display of the device says now: readings that agree come first.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    expect: Option<f64>,

    /// How long a reply may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..=30_000))]
    timeout: u64,

    /// How long to wait before each request, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pause: u64,

    /// Most registers of one request.
    #[arg(long, value_name = "COUNT", default_value_t = REGISTERS_MAX, value_parser = clap::value_parser!(u16).range(1..=i64::from(REGISTERS_MAX)))]
    max_registers: u16,

    /// Authorities (PEM) to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Coil,
    Discrete,
    Holding,
    Input,
}

impl Modbus {
    pub(super) fn look(self) -> Result<Look, CliError> {
        if let Some(file) = &self.import {
            return take_over(file);
        }
        let Some(endpoint) = self.url.clone() else {
            return Ok(Look::default());
        };
        let asked = endpoint.to_string();
        let wish = self.wish(endpoint);
        let (say, heard) = watch::channel(format!("asking {asked}"));
        let looking = async {
            let tell = |line| drop(say.send_replace(line));
            let asking = look(&wish, Arc::new(Outbound), &tell);
            Progress::told(&heard, asking).await
        };
        run::runtime()?
            .block_on(looking)
            .map_err(|fault| CliError::Failed {
                status: ExitStatus::Problem,
                chain: fault.reason(),
                hint: None,
            })
    }

    fn wish(self, endpoint: Endpoint) -> Wish {
        use cms_collectors::thermal::modbus::register::Kind as Register;
        let kinds: Vec<Register> = self
            .kind
            .iter()
            .map(|kind| match kind {
                Kind::Coil => Register::Coil,
                Kind::Discrete => Register::Discrete,
                Kind::Holding => Register::Holding,
                Kind::Input => Register::Input,
            })
            .collect();
        let units_only = self.units.is_some() && self.scan.is_none();
        let units = self
            .units
            .unwrap_or(self.unit.into()..u32::from(self.unit) + 1);
        Wish {
            tls: self.ca_file.map(|file| Tls {
                ca_file: Some(file),
                ..Tls::default()
            }),
            endpoint,
            units: units.filter_map(|unit| u8::try_from(unit).ok()).collect(),
            units_only,
            kinds: if kinds.is_empty() {
                vec![Register::Holding, Register::Input]
            } else {
                kinds
            },
            range: self.scan.unwrap_or(0..100),
            limits: Limits {
                registers_max: self.max_registers,
                bits_max: BITS_MAX,
                gap_max: 0,
            },
            manner: Manner {
                timeout: Duration::from_millis(self.timeout),
                pause: Duration::from_millis(self.pause),
            },
            expect: self.expect,
        }
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse()
}

fn take_over(file: &std::path::Path) -> Result<Look, CliError> {
    let failed = |chain: String| CliError::Failed {
        status: ExitStatus::Problem,
        chain: format!("{}: {chain}", file.display()),
        hint: None,
    };
    let size = fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > IMPORT_BYTES_MAX {
        return Err(failed(format!(
            "it is longer than {IMPORT_BYTES_MAX} bytes"
        )));
    }
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let import = import(&text).map_err(|error| failed(crate::status::error_chain(&error)))?;
    let mut found = vec![format!("{} points of {}", import.points, file.display())];
    found.extend(import.notes);
    Ok(Look {
        found,
        table: import.table,
    })
}
