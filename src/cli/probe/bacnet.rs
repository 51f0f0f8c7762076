//! `probe bacnet`: the devices of a network, or the objects of one.

use std::path::Path;

use clap::Args;
use cms_collectors::thermal::bacnet::probe::{Address, Interface, Look, Report, look};

use super::answered;
use crate::cli::CliError;
use crate::clock::Clock;

/// Where the machine's routes are.
const ROUTES: &str = "/proc/net/route";

/// What `probe bacnet` is asked with.
#[derive(Debug, Args)]
pub(super) struct Bacnet {
    /// The instance of one device, whose objects are listed.
    #[arg(long, value_name = "INSTANCE", value_parser = clap::value_parser!(u32).range(0..=4_194_302))]
    device: Option<u32>,

    /// The address of one device, where it does not answer broadcasts.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    address: Option<Address>,

    /// The address of this machine on the devices' network, with its prefix: 10.0.0.5/24.
    #[arg(long, value_name = "ADDRESS[/PREFIX]")]
    interface: Option<Interface>,

    /// The UDP port of the network, if it is not 47808.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// A broadcast device of the network, if it is behind an IP router.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    bbmd: Option<Address>,
}

impl Bacnet {
    pub(super) fn look(self) -> Result<Report, CliError> {
        let what = match (self.device, self.address) {
            (Some(device), _) => format!("asking device {device}"),
            (None, Some(address)) => format!("asking {address}"),
            (None, None) => "looking for devices".to_owned(),
        };
        let asked = Look {
            interface: self.interface,
            port: self.port,
            bbmd: self.bbmd,
            device: self.device,
            address: self.address,
        };
        let now = Clock::system().now();
        answered(&what, look(asked, Path::new(ROUTES), now))
    }
}
