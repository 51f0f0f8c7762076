//! The machine's power as its management controller gives it to the host: DCMI through `/dev/ipmi0`.
//!
//! Owns: the one question that is asked, and what stands in its way. Promises: nothing else is ever sent
//! to the controller; a driver that hangs holds one thread and no tick; a device that is missing or may
//! not be opened is told with what helps. Refuses: other commands, other machines' controllers.

mod dcmi;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::provenance::{Confidence, Origin};
use ipmi_rs::File;
use ipmi_rs::connection::{IpmiConnection, LogicalUnit, Message, Request, RequestTargetAddress};
use tokio::task::{JoinHandle, spawn_blocking};

use self::dcmi::Reading;
use super::nameplate::Nameplate;
use super::polled::{Measured, Meter, POLL_EVERY, PollEvery, Polled};
use super::{Rung, Span, Verdict};
use crate::checked::AbsolutePath;
use crate::{CollectError, Host};

/// The driver itself gives up after five seconds; this is for what is lost on the way.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// Names the source in provenance.
const SOURCE: &str = "ipmi/dcmi";

/// Names the method: what DCMI gives is the power of the platform, which most controllers sum from the
/// inputs of their supplies, without saying so.
const METHOD: &str = "dcmi-power/1 chassis";

/// `[compute.power.ipmi]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    device: Option<AbsolutePath>,
    pub(super) interval: PollEvery,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device: None,
            interval: POLL_EVERY,
        }
    }
}

/// Asks a controller one question; the device's own way, or a test's.
type Ask = fn(&Path) -> Result<Reading, CollectError>;

/// The rung `ipmi`: absent without a device, which is looked for at each tick.
pub(super) struct Ipmi {
    device: PathBuf,
    is_configured: bool,
    interval: PollEvery,
    nameplate: Option<Nameplate>,
    asked: Option<Polled>,
}

/// The controller behind a device file.
struct Controller {
    device: PathBuf,
    ask: Ask,
    /// The question that is on its way; it may hang in the driver.
    asking: Option<JoinHandle<Result<Reading, CollectError>>>,
}

impl Ipmi {
    /// Sets it up; nothing is opened yet.
    pub(super) fn new(config: &Config, nameplate: Option<Nameplate>, host: &Host) -> Self {
        let device = config.device.as_ref();
        Self {
            device: device.map_or_else(|| host.dev.join("ipmi0"), |path| path.as_path().to_owned()),
            is_configured: device.is_some(),
            interval: config.interval,
            nameplate,
            asked: None,
        }
    }
}

impl Rung for Ipmi {
    fn name(&self) -> &str {
        "ipmi"
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        if !self.device.exists() {
            self.asked = None;
            let why = no_device(&self.device);
            return if self.is_configured {
                Verdict::Invalid(why)
            } else {
                Verdict::Absent(why)
            };
        }
        let asked = self.asked.get_or_insert_with(|| {
            let controller = Controller {
                device: self.device.clone(),
                ask: ask_device,
                asking: None,
            };
            Polled::new("ipmi", self.interval, self.nameplate, controller)
        });
        asked.read(span)
    }

    fn is_waiting(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.is_waiting())
    }

    fn origin(&self) -> Origin {
        match &self.asked {
            Some(asked) => asked.origin(),
            None => Origin::measured(SOURCE, METHOD, Confidence::B),
        }
    }
}

#[async_trait]
impl Meter for Controller {
    async fn poll(&mut self) -> Result<Measured, CollectError> {
        if self
            .asking
            .as_ref()
            .is_some_and(|asking| !asking.is_finished())
        {
            return Err(CollectError::Timeout {
                what: format!("the driver of {}", self.device.display()),
                after: ANSWER_WITHIN,
            });
        }
        // Kept while it is waited for: should the wait be dropped, the next poll finds it.
        let asking = self.asking.insert({
            let (ask, device) = (self.ask, self.device.clone());
            spawn_blocking(move || ask(&device))
        });
        let answer = asking.await;
        self.asking = None;
        let reading = answer.map_err(|_| CollectError::Malformed {
            what: "the reader of the controller's answers".to_owned(),
            found: "it panicked, which is a bug: please report it with the log".to_owned(),
        })??;
        Ok(Measured {
            origin: Origin::measured(SOURCE, METHOD, Confidence::B),
            power: Some(reading.power),
            counter: None,
            source_time: reading.measured_at,
        })
    }
}

/// Opens the device anew for each question, so that no late answer is taken for the next one.
fn ask_device(device: &Path) -> Result<Reading, CollectError> {
    let mut opened =
        File::new(device, ANSWER_WITHIN).map_err(|error| cannot_open(device, error))?;
    ask(&mut opened, device)
}

fn ask<C>(controller: &mut C, device: &Path) -> Result<Reading, CollectError>
where
    C: IpmiConnection<Error = io::Error>,
{
    let message = Message::new_raw(dcmi::NETFN, dcmi::COMMAND, dcmi::REQUEST.to_vec());
    let target = RequestTargetAddress::Bmc(LogicalUnit::Zero);
    let answer = controller
        .send_recv(&mut Request::new(message, target))
        .map_err(|error| cannot_ask(device, error))?;
    if answer.netfn_raw() != dcmi::NETFN + 1 || answer.cmd() != dcmi::COMMAND {
        return Err(odd(
            device,
            "it answers another question than was asked".to_owned(),
        ));
    }
    dcmi::read(answer.cc(), answer.data()).map_err(|found| odd(device, found))
}

fn no_device(device: &Path) -> String {
    format!(
        "there is no {}, which the modules ipmi_si and ipmi_devintf make",
        device.display()
    )
}

fn cannot_open(device: &Path, error: io::Error) -> CollectError {
    match error.kind() {
        io::ErrorKind::NotFound => CollectError::Vanished {
            what: device.display().to_string(),
        },
        io::ErrorKind::PermissionDenied => CollectError::Denied {
            path: device.to_owned(),
            hint: "give the agent's group read access to it with a udev rule; in a service, it also needs \
                   DeviceAllow="
                .to_owned(),
            source: error,
        },
        _ => cannot_ask(device, error),
    }
}

fn cannot_ask(device: &Path, error: io::Error) -> CollectError {
    const NOT_A_DEVICE_OF_THIS_KIND: i32 = 25;
    if error.raw_os_error() == Some(NOT_A_DEVICE_OF_THIS_KIND) {
        return odd(device, "it is no IPMI device".to_owned());
    }
    if error.kind() == io::ErrorKind::WouldBlock {
        return CollectError::Timeout {
            what: format!("the controller behind {}", device.display()),
            after: ANSWER_WITHIN,
        };
    }
    CollectError::Unreachable {
        what: format!("the controller behind {}", device.display()),
        source: error,
    }
}

fn odd(device: &Path, found: String) -> CollectError {
    CollectError::Malformed {
        what: format!(
            "what the controller behind {} says about power",
            device.display()
        ),
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipmi_rs::connection::Response;

    /// A controller that answers as it was told to, and remembers what it was asked.
    struct Recorded {
        answer: Result<(u8, u8, Vec<u8>), i32>,
        asked: Vec<(u8, u8, Vec<u8>)>,
    }

    impl IpmiConnection for Recorded {
        type SendError = io::Error;
        type RecvError = io::Error;
        type Error = io::Error;

        fn send(&mut self, request: &mut Request) -> io::Result<()> {
            self.asked
                .push((request.netfn_raw(), request.cmd(), request.data().to_vec()));
            Ok(())
        }

        fn recv(&mut self) -> io::Result<Response> {
            match &self.answer {
                Ok((netfn, command, data)) => {
                    let message = Message::new_raw(*netfn, *command, data.clone());
                    Ok(Response::new(message, 0).unwrap())
                }
                Err(code) => Err(io::Error::from_raw_os_error(*code)),
            }
        }

        fn send_recv(&mut self, request: &mut Request) -> io::Result<Response> {
            self.send(request)?;
            self.recv()
        }
    }

    /// What a controller answered through the kernel's driver: completion code 0, then the reading.
    const ACTIVE: [u8; 19] = [
        0x00, 0xdc, 0xd8, 0x01, 0xd8, 0x01, 0xd8, 0x01, 0xd8, 0x01, 0xee, 0x84, 0x02, 0x6b, 0xe8,
        0x03, 0x00, 0x00, 0x40,
    ];

    fn asked(answer: Result<(u8, u8, Vec<u8>), i32>) -> Result<Reading, CollectError> {
        let mut controller = Recorded {
            answer,
            asked: Vec::new(),
        };
        let reading = ask(&mut controller, Path::new("/dev/ipmi0"));
        assert_eq!(
            controller.asked,
            [(0x2c, 0x02, vec![0xdc, 0x01, 0x00, 0x00])]
        );
        reading
    }

    fn told(error: &CollectError) -> String {
        let source = std::error::Error::source(error).map(|source| format!(": {source}"));
        format!("{}: {error}{}", error.class(), source.unwrap_or_default())
    }

    #[test]
    fn a_recorded_answer_is_a_power() {
        let reading = asked(Ok((0x2d, 0x02, ACTIVE.to_vec()))).unwrap();
        assert_eq!(reading.power.0, 472_000);
    }

    #[test]
    fn each_refusal_says_what_it_is() {
        let short = ACTIVE[..5].to_vec();
        for (answer, words) in [
            (
                Ok((0x2d, 0x02, vec![0xc1])),
                "malformed: what the controller behind /dev/ipmi0",
            ),
            (Ok((0x2d, 0x02, vec![0xd4])), "privilege"),
            (Ok((0x2d, 0x02, short)), "no power reading"),
            (Ok((0x2d, 0x01, ACTIVE.to_vec())), "another question"),
            (Ok((0x07, 0x02, ACTIVE.to_vec())), "another question"),
            (Err(25), "no IPMI device"),
            (
                Err(11),
                "timeout: the controller behind /dev/ipmi0 did not answer within 6s",
            ),
            (
                Err(5),
                "unreachable: cannot reach the controller behind /dev/ipmi0",
            ),
        ] {
            let found = told(&asked(answer).unwrap_err());
            assert!(found.contains(words), "{found}");
        }
    }

    #[test]
    fn a_device_that_cannot_be_opened_says_what_helps() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("ipmi0");
        let missing = told(&ask_device(&device).unwrap_err());
        assert!(missing.contains("vanished"), "{missing}");
        assert!(no_device(&device).contains("ipmi_devintf"));
        std::fs::write(&device, "").unwrap();
        let other = told(&ask_device(&device).unwrap_err());
        assert!(other.contains("no IPMI device"), "{other}");
        let denied = cannot_open(&device, io::Error::from_raw_os_error(13));
        assert!(told(&denied).contains("udev rule"), "{}", told(&denied));
    }

    #[tokio::test]
    async fn a_driver_that_hangs_holds_one_thread() {
        use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

        static IS_OPEN: AtomicBool = AtomicBool::new(false);
        static ASKED: AtomicUsize = AtomicUsize::new(0);

        fn hangs(device: &Path) -> Result<Reading, CollectError> {
            ASKED.fetch_add(1, Ordering::SeqCst);
            while !IS_OPEN.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            dcmi::read(0, &ACTIVE[1..]).map_err(|found| odd(device, found))
        }

        let mut ipmi = Controller {
            device: "/dev/ipmi0".into(),
            ask: hangs,
            asking: None,
        };
        for _ in 0..3 {
            // What asks gives up, as it does at the end of its time.
            let gave_up = tokio::time::timeout(Duration::ZERO, ipmi.poll()).await;
            assert!(!matches!(gave_up, Ok(Ok(_))));
        }
        let refused = ipmi.poll().await.unwrap_err();
        assert!(
            told(&refused).contains("the driver of /dev/ipmi0"),
            "{}",
            told(&refused)
        );
        IS_OPEN.store(true, Ordering::SeqCst);
        let answered = loop {
            match ipmi.poll().await {
                Err(CollectError::Timeout { .. }) => tokio::task::yield_now().await,
                answer => break answer.unwrap(),
            }
        };
        assert_eq!(answered.power.map(|power| power.0), Some(472_000));
        assert_eq!(ASKED.load(Ordering::SeqCst), 2);
    }
}
