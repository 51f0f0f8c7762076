//! `[[witness]]`: who else countersigns the heads of the ledger, besides the dashboard.
//!
//! Promises: https only, verified like the dashboard's; the witness's key is known before it is asked. Refuses:
//! two witnesses of one name, whose signatures nobody could tell apart.

use std::path::PathBuf;
use std::time::Duration;

use cms_attest::CosignerKey;
use toml::Spanned;
use toml::de::DeTable;

use super::amount::Time;
use super::checks::{Checker, Fault, absolute, shown_path};
use super::dashboard::Endpoint;
use super::report::{Problem, Problems};
use super::resolved::{Origin, Section};
use super::{raw, tree};
use crate::limits::WITNESSES_MAX;

/// How often a witness is shown a head unless configured: as often as most slots end.
const INTERVAL: Time = Time(Duration::from_secs(15 * 60));

/// Faster than this nothing is submitted.
const INTERVAL_MIN: Time = Time(Duration::from_secs(1));

/// Slower than this it would not bound the time in which history can be rewritten.
const INTERVAL_MAX: Time = Time(Duration::from_secs(24 * 60 * 60));

const VKEY_EXAMPLE: &str = "vkey = \"witness.example+1a2b3c4d+BAAA…\", as the witness publishes it";
const URL_EXAMPLE: &str = "url = \"https://witness.example/add-checkpoint\"";

/// One witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its name and key.
    pub key: CosignerKey,
    /// The whole address that heads are posted to.
    pub url: Endpoint,
    /// Authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How often it is shown a head, where there is a new one.
    pub interval: Duration,
}

/// Takes `[witness]` out, which was meant to be `[[witness]]`.
pub(super) fn refuse_single(root: &mut DeTable<'_>, problems: &mut Problems) {
    if root
        .get("witness")
        .is_some_and(|node| node.get_ref().is_table())
        && let Some((key, _)) = tree::take(root, "witness")
    {
        let message = "`witness` is a table that can be repeated";
        problems.push(Problem::at(key.span(), message).help("write: [[witness]]"));
    }
}

/// Checks each table.
pub(super) fn check(check: &mut Checker<'_>, raw: Vec<Spanned<raw::Witness>>) -> Vec<Witness> {
    let mut witnesses: Vec<Witness> = Vec::new();
    for (n, raw) in raw.into_iter().enumerate() {
        let span = raw.span();
        if n == WITNESSES_MAX {
            let message = format!("more than {WITNESSES_MAX} witnesses");
            check.problems.push(Problem::at(span, message));
            break;
        }
        let before = check.resolved.settings.len();
        let witness = one(check, raw);
        let mut settings = check.resolved.settings.split_off(before);
        for setting in &mut settings {
            setting.key = setting.key.trim_start_matches("witness.").to_owned();
        }
        let Some(witness) = witness else {
            continue;
        };
        let name = witness.key.name();
        if witnesses.iter().any(|other| other.key.name() == name) {
            let message = format!("there are two witnesses called {name}");
            check.problems.push(Problem::at(span.clone(), message));
        }
        if let Origin::File(place) = check.origin(span.start) {
            check.resolved.sections.push(Section {
                header: "[[witness]]".to_owned(),
                origin: place,
                settings,
                remark: format!(
                    "{name} is shown each new head at most every {}",
                    Time(witness.interval)
                ),
            });
        }
        witnesses.push(witness);
    }
    witnesses
}

fn one(check: &mut Checker<'_>, raw: Spanned<raw::Witness>) -> Option<Witness> {
    let span = raw.span();
    let raw = raw.into_inner();
    if raw.vkey.is_none() {
        check.missing("witness.vkey", span.clone(), VKEY_EXAMPLE);
    }
    if raw.url.is_none() {
        check.missing("witness.url", span, URL_EXAMPLE);
    }
    let key = check.optional("witness.vkey", raw.vkey, vkey, |key| {
        tree::string(&key.to_string())
    });
    let parse = |text: String| {
        Endpoint::parse(&text).map_err(|fault| match fault.help {
            Some(_) => Fault::new(fault.message).help(format!("write: {URL_EXAMPLE}")),
            None => fault,
        })
    };
    let url = check.optional("witness.url", raw.url, parse, |url| {
        tree::string(&url.to_string())
    });
    if raw.ca_file.is_none() {
        check.note("witness.ca_file", None, Origin::default());
    }
    let ca_file = check.optional("witness.ca_file", raw.ca_file, absolute, shown_path);
    let interval = check.value(
        "witness.interval",
        raw.interval,
        INTERVAL,
        interval,
        |time| tree::string(&time.to_string()),
    );
    Some(Witness {
        key: key?,
        url: url?,
        ca_file,
        interval: interval.0,
    })
}

fn vkey(text: String) -> Result<CosignerKey, Fault> {
    text.parse().map_err(|_| {
        Fault::new("this is no key of a witness").help(format!(
            "write: {VKEY_EXAMPLE}; it is of the kind cosignature/v1 with Ed25519"
        ))
    })
}

fn interval(text: String) -> Result<Time, Fault> {
    let time: Time = text.parse()?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&time) {
        return Ok(time);
    }
    Err(Fault::new(format!(
        "{time} is not from {INTERVAL_MIN} to {INTERVAL_MAX}"
    )))
}
