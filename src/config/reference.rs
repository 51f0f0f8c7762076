//! Where a secret is: `{ file = … }`, `{ credential = … }` or `{ env = … }`, never the secret itself.
//!
//! Promises: no value of it is ever repeated, because it may be the secret itself.

use serde::Deserialize;
use toml::de::DeValue;

use super::checks::{Checker, Fault, absolute, shown_path};
use super::report::Problem;
use super::secret::SecretSource;
use super::tree::Node;
use super::{mask, raw, read, tree};

/// Linux refuses longer names of files, and a credential is a file.
const CREDENTIAL_NAME_BYTES_MAX: usize = 255;

/// A key of the configuration that names the place of a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecretKey {
    /// The key, dotted from the top.
    pub(super) path: &'static str,
    /// How it is written; every refusal shows it.
    pub(super) example: &'static str,
    /// Whether an environment variable will do. Children and crash reports inherit it.
    pub(super) may_be_variable: bool,
}

/// Reads where a secret is.
pub(super) fn check(
    check: &mut Checker<'_>,
    secret: &SecretKey,
    node: &Node<'_>,
) -> Option<SecretSource> {
    let SecretKey {
        path: key, example, ..
    } = secret;
    let inline = || {
        Problem::at(node.span(), format!("`{key}` holds the key itself"))
            .label("not shown here")
            .help("put it into a file that only the agent's user can read, and write where it is")
            .help(*example)
    };
    if !matches!(node.get_ref(), DeValue::Table(_)) {
        check.problems.push(inline());
        return None;
    }
    let outcome = read::table(node, &[], check.problems, |d| {
        raw::SecretReference::deserialize(d)
    });
    let reference = outcome.value.filter(|_| outcome.left_out.is_empty())?;
    let given = [
        ("credential", reference.credential),
        ("env", reference.env),
        ("file", reference.file),
    ];
    let mut given = given
        .into_iter()
        .filter_map(|(kind, text)| Some((kind, text?)));
    let (Some((kind, text)), None) = (given.next(), given.next()) else {
        let problem = Problem::at(
            node.span(),
            format!("`{key}` names one place, not none or several"),
        );
        check.problems.push(problem.help(*example));
        return None;
    };
    if mask::has_key(text.get_ref()) {
        check.problems.push(inline());
        return None;
    }
    let source = |text: String| match kind {
        "credential" => credential(text),
        "env" if secret.may_be_variable => variable(text),
        "env" => Err(Fault::new("a variable is no place for this key").help(*example)),
        _ => absolute(text).map(SecretSource::File),
    };
    let show = |source: &SecretSource| match source {
        SecretSource::File(path) => shown_path(path),
        SecretSource::Credential(name) | SecretSource::Env(name) => tree::string(name),
    };
    check.optional(&format!("{key}.{kind}"), Some(text), source, show)
}

fn credential(name: String) -> Result<SecretSource, Fault> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let right = (1..=CREDENTIAL_NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(allowed);
    if right {
        return Ok(SecretSource::Credential(name));
    }
    Err(Fault::new("this is no name of a credential")
        .help("use letters, digits, '_', '-' and '.', as in LoadCredential=api-key:FILE"))
}

fn variable(name: String) -> Result<SecretSource, Fault> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.bytes().all(allowed) {
        return Ok(SecretSource::Env(name));
    }
    Err(Fault::new("this is no name of an environment variable")
        .help("use letters, digits and '_', for example CMS_API_KEY"))
}
