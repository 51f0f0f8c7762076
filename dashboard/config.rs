//! The dashboard's configuration file. Unknown keys are refused; every error says where and what to do.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What the dashboard must be told before it can start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host, and the port unless it is 443, that agents send to. It is part of what they sign, so it is
    /// taken from here and never from the request. A port of 0 stands for the one that was bound.
    pub authority: String,
    /// Certificate chain in PEM, the server's own certificate first.
    pub tls_cert_file: PathBuf,
    /// Its private key in PEM.
    pub tls_key_file: PathBuf,
    /// When set, only clients with a certificate of this authority are let in, on every path.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// Directory of the database; it is made when it is not there.
    pub store: PathBuf,
}

impl Config {
    /// Reads and checks the file. Relative paths in it count from the file's own directory.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown or missing key, or an authority that no
    /// client can send to.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.check_authority(path)?;
        if let Some(base) = path.parent() {
            let files = [
                Some(&mut config.tls_cert_file),
                Some(&mut config.tls_key_file),
                config.client_ca_file.as_mut(),
                Some(&mut config.store),
            ];
            for file in files.into_iter().flatten() {
                *file = base.join(&*file);
            }
        }
        Ok(config)
    }

    fn check_authority(&self, path: &Path) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        let right = !self.authority.is_empty() && self.authority.chars().all(plain);
        if right {
            Ok(())
        } else {
            Err(ConfigError::Authority {
                path: path.to_owned(),
                found: self.authority.clone(),
            })
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It names something that is not a host.
    #[error(
        "{}: authority = {found:?} is not a host or host:port; write it as agents reach this dashboard, \
         for example \"dashboard.example.org\"", path.display()
    )]
    Authority {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// It is not what a dashboard's configuration looks like.
    #[error("{}: this is not a dashboard's configuration; mend the line below", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: Box<toml::de::Error>,
    },
    /// It cannot be read.
    #[error("cannot read {}; give its path with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dashboard.toml");
        fs::write(&path, text).unwrap();
        let mut config = Config::load(&path)?;
        config.store = config.store.strip_prefix(dir.path()).unwrap().to_owned();
        Ok(config)
    }

    const GOOD: &str = "listen = \"127.0.0.1:0\"\nauthority = \"localhost:0\"\n\
        tls_cert_file = \"/c.pem\"\ntls_key_file = \"k.pem\"\nstore = \"data\"\n";

    #[test]
    fn relative_paths_count_from_the_file() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.store, Path::new("data"));
        assert_eq!(config.tls_cert_file, Path::new("/c.pem"));
    }

    #[test]
    fn the_example_is_right_with_every_line_in_use() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard.example.toml");
        assert_eq!(Config::load(&path).unwrap().client_ca_file, None);
        let text = fs::read_to_string(path).unwrap();
        let config: Config = toml::from_str(&text.replace("# client_ca", "client_ca")).unwrap();
        assert!(config.client_ca_file.is_some());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = load(&format!("{GOOD}stroe = \"x\"\n")).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("line 6"), "{source}");
        assert!(source.contains("stroe"), "{source}");
    }

    #[test]
    fn an_authority_is_not_an_address() {
        let url = GOOD.replace("localhost:0", "https://localhost");
        assert!(matches!(load(&url), Err(ConfigError::Authority { .. })));
    }
}
