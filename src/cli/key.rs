//! `key`: lists and replaces the agent's keys. The running agent does it; this command asks it, or, where none runs,
//! takes an identity out of its store.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::run::runtime;
use super::status::wait;
use super::{CliError, ExitStatus, load, print};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{self, Answer, Ask, Keys, Row};
use crate::identity::{Identity, Machine, Purpose};
use crate::status::error_chain;
use crate::store::{self, Reset, Store};

/// The agent answers at once; one that does not is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often a rotation is looked at, and how many times before it is left to itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOKS_MAX: usize = 150;

/// Lists or replaces the agent's keys.
#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Show the public names of all keys, and which of them are in use.
    List(List),
    /// Replace keys of the running agent; nothing pauses. Or say what a copied or moved machine is.
    Rotate(Rotate),
    /// Pin this key of the dashboard for receipts, where the pinned one has not named it itself.
    TrustDashboard {
        /// The line that the dashboard's GET /keys shows, as its owner confirms it.
        key: String,
    },
}

#[derive(Debug, Args)]
struct List {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(false)))]
struct Rotate {
    /// Which of the agent's keys.
    #[arg(group = "what", value_enum)]
    which: Option<Which>,

    /// Take the identity out of the store of an agent that does not run: the next start makes a new one. For golden
    /// images, and for copies of a machine.
    #[arg(long, group = "what")]
    reset_identity: bool,

    /// This is still the same agent, on another machine or with another main board. For an agent that does not
    /// run; the dashboard's owner has to run `dashboard agent move`, too.
    #[arg(long, group = "what")]
    same_agent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Both.
    All,
    /// The key that signs heads of the ledger.
    Log,
    /// The key that signs requests.
    Request,
}

impl Key {
    pub(super) fn run(self, config_path: &Path) -> Result<ExitStatus, CliError> {
        let config = load(config_path)?;
        match self.command {
            KeyCommand::List(list) => {
                let keys = ask(&config, &Ask::Keys)?;
                print(&if list.json { json(&keys)? } else { text(&keys) });
                Ok(ExitStatus::Ok)
            }
            KeyCommand::Rotate(Rotate {
                which: Some(which), ..
            }) => rotate(&config, which),
            KeyCommand::Rotate(Rotate { same_agent, .. }) if same_agent => move_here(&config),
            KeyCommand::Rotate(_) => reset(&config),
            KeyCommand::TrustDashboard { key } => {
                let keys = ask(&config, &Ask::TrustDashboard { key })?;
                print(&text(&keys));
                Ok(ExitStatus::Ok)
            }
        }
    }
}

fn rotate(config: &Config, which: Which) -> Result<ExitStatus, CliError> {
    let purposes = match which {
        Which::All => Purpose::ALL.to_vec(),
        Which::Log => vec![Purpose::Log],
        Which::Request => vec![Purpose::Request],
    };
    let names: Vec<String> = purposes.iter().map(ToString::to_string).collect();
    let in_use = |keys: &Keys| -> Vec<String> {
        let rows = keys.keys.iter();
        let wanted = rows.filter(|row| row.state == "current" && names.contains(&row.name));
        wanted.map(|row| row.id.clone()).collect()
    };
    let is_waiting = |row: &Row| row.state == "next" && names.contains(&row.name);
    let before = in_use(&ask(config, &Ask::Keys)?);
    let mut keys = ask(config, &Ask::Rotate { purposes })?;
    for _ in 0..LOOKS_MAX {
        if !keys.keys.iter().any(is_waiting) {
            break;
        }
        wait(LOOK_EVERY);
        keys = ask(config, &Ask::Keys)?;
    }
    print(&text(&keys));
    if keys.keys.iter().any(is_waiting) {
        print(
            "the agent asks the dashboard again by itself; nothing is lost or paused meanwhile\n",
        );
    }
    let is_refused = !keys.keys.iter().any(is_waiting) && in_use(&keys) == before;
    Ok(if is_refused {
        ExitStatus::Problem
    } else {
        ExitStatus::Ok
    })
}

fn reset(config: &Config) -> Result<ExitStatus, CliError> {
    let has_key = store::key::find(&config.store).is_ok();
    let done = store::reset(&config.store.path, has_key, Clock::system().now())
        .map_err(|error| CliError::failed(&error).hint("stop the agent first"))?;
    let path = config.store.path.display();
    print(&match done {
        Reset::Nothing => {
            format!("there is no store in {path}: the first start makes an identity\n")
        }
        Reset::TakenOut => format!(
            "the identity is taken out of {path}: the next start makes a new one and enrols it; readings and ledger stay\n"
        ),
        Reset::SetAside => format!(
            "the identity is taken out of {path}; the database is set aside in quarantine/, because the key that it is sealed with is not here\n"
        ),
    });
    Ok(ExitStatus::Ok)
}

fn move_here(config: &Config) -> Result<ExitStatus, CliError> {
    let key = store::key::find(&config.store).map_err(|error| CliError::configuration(&error))?;
    let Some(key) = key.filter(|_| config.store.path.is_dir()) else {
        return Err(CliError::Failed {
            status: ExitStatus::Problem,
            chain: format!("there is no identity in {}", config.store.path.display()),
            hint: Some("restore the store and its key first".to_owned()),
        });
    };
    let clock = Clock::system();
    let machine = Machine::local(&clock.boot_id());
    let agent_id = runtime()?.block_on(async {
        let store = Store::open(&config.store.path, &key)
            .await
            .map_err(|error| CliError::of_store(&error).hint("stop the agent first"))?;
        let settled = Identity::settle_here(&store, &key, &machine, clock.now()).await;
        let agent_id = settled.map_err(|error| CliError::failed(&error))?;
        store
            .settle()
            .await
            .map_err(|error| CliError::failed(&error))?;
        Ok(agent_id)
    })?;
    print(&format!(
        "agent {agent_id} is at home on this machine now; let its dashboard take it from here: dashboard agent move {agent_id}\n"
    ));
    Ok(ExitStatus::Ok)
}

fn ask(config: &Config, ask: &Ask) -> Result<Keys, CliError> {
    let socket = control::socket(&config.status_socket);
    let answer = exchange(&socket, ask).map_err(|error| CliError::Failed {
        status: ExitStatus::Problem,
        chain: format!(
            "no agent answers at {}: {}",
            socket.display(),
            error_chain(&error)
        ),
        hint: Some(
            "only the running agent changes keys: start it, and run this as its user or as root"
                .to_owned(),
        ),
    })?;
    match answer {
        Answer::Keys(keys) => Ok(keys),
        Answer::Refused(chain) => Err(CliError::Failed {
            status: ExitStatus::Problem,
            chain,
            hint: None,
        }),
    }
}

pub(super) fn exchange(socket: &Path, ask: &Ask) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn json(keys: &Keys) -> Result<String, CliError> {
    let text = serde_json::to_string(keys).map_err(|error| CliError::failed(&error))?;
    Ok(text + "\n")
}

fn text(keys: &Keys) -> String {
    let mut text = String::new();
    for row in &keys.keys {
        let since = row.since.map(|since| format!(", since {since}"));
        let until = row.until.map(|until| format!(", until {until}"));
        let state = match (row.state.as_str(), row.name.as_str()) {
            ("next", "api") => "stands by",
            ("next", _) => "waits for the dashboard",
            ("previous", _) => "signs beside its successor",
            _ => "in use",
        };
        let (since, until) = (since.unwrap_or_default(), until.unwrap_or_default());
        text.push_str(&format!(
            "{:<9}  {}  {state}{since}{until}\n",
            row.name, row.id
        ));
    }
    text.push_str(&format!("sealed with the key in {}\n", keys.protection));
    if let Some(rotation) = &keys.rotation {
        text.push_str(&format!("rotation: {rotation}\n"));
    }
    text
}
