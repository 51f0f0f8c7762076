//! The API keys: one in use, and one more while the dashboard's changes.
//!
//! Promises: a key is read anew at each use, so that a file that was exchanged counts at once; which of two is
//! in use is remembered until the agent ends, and shown by its public id only. Refuses: keeping a key.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cms_attest::keys::api_key_id;

use crate::config::{Dashboard, Secret, SecretError, SecretSource};

/// Where the keys are, and which of them the dashboard takes. Clones share the choice.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    key: SecretSource,
    next: Option<SecretSource>,
    next_is_used: Arc<AtomicBool>,
}

/// A key as it was read for one use.
#[derive(Debug)]
pub struct ApiKey {
    secret: Secret,
    is_next: bool,
}

impl ApiKeys {
    /// The keys that the configuration names.
    #[must_use]
    pub fn new(dashboard: &Dashboard) -> Self {
        Self::at(dashboard.api_key.clone(), dashboard.api_key_next.clone())
    }

    /// The keys in these places.
    #[must_use]
    pub fn at(key: SecretSource, next: Option<SecretSource>) -> Self {
        Self {
            key,
            next,
            next_is_used: Arc::default(),
        }
    }

    /// The key in use; where it cannot be read, the other one.
    ///
    /// # Errors
    /// When neither can be read: with what is wrong with the one in use.
    pub fn read(&self) -> Result<ApiKey, SecretError> {
        let is_next = self.next_is_used.load(Ordering::Relaxed);
        self.read_one(is_next)
            .or_else(|error| self.read_one(!is_next).map_err(|_| error))
    }

    /// The other key, where there is one that says something else.
    #[must_use]
    pub fn other(&self, than: &ApiKey) -> Option<ApiKey> {
        let other = self.read_one(!than.is_next).ok()?;
        (other.secret.expose() != than.secret.expose()).then_some(other)
    }

    /// This one is used from now on.
    pub fn choose(&self, key: &ApiKey) {
        self.next_is_used.store(key.is_next, Ordering::Relaxed);
    }

    fn read_one(&self, is_next: bool) -> Result<ApiKey, SecretError> {
        let source = match &self.next {
            Some(next) if is_next => next,
            _ => &self.key,
        };
        let secret = source.read()?;
        Ok(ApiKey { secret, is_next })
    }
}

impl ApiKey {
    /// The key itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.secret.expose()
    }

    /// The public id.
    #[must_use]
    pub fn id(&self) -> String {
        api_key_id(self.secret.expose())
    }
}

/// The public id and the key that names the place in the configuration.
impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = if self.is_next {
            "api_key_next"
        } else {
            "api_key"
        };
        write!(f, "{} from {option}", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    fn write(path: &Path, key: &str) {
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path).unwrap();
        std::io::Write::write_all(&mut file, key.as_bytes()).unwrap();
    }

    #[test]
    fn the_choice_is_shared_and_a_file_counts_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        write(&first, "one");
        let [key, next] = [&first, &second].map(|path| SecretSource::File(path.clone()));
        let keys = ApiKeys::at(key, Some(next));
        let key = keys.read().unwrap();
        assert_eq!(key.expose(), "one");
        assert!(keys.other(&key).is_none(), "it is not there");
        write(&second, "one");
        assert!(keys.other(&key).is_none(), "it is the same");
        write(&second, "two");
        let other = keys.other(&key).unwrap();
        assert_eq!(other.expose(), "two");
        keys.clone().choose(&other);
        assert_eq!(keys.read().unwrap().expose(), "two");
        fs::remove_file(&second).unwrap();
        assert_eq!(keys.read().unwrap().expose(), "one", "the one that is left");
        write(&second, "three");
        assert_eq!(keys.read().unwrap().expose(), "three");
        let shown = format!("{} {:?}", keys.read().unwrap(), keys.read().unwrap());
        assert!(shown.contains("from api_key_next") && !shown.contains("three"));
    }
}
