//! A network made of files: what `http/answers.toml` of a case says, every server answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cms_collectors::CollectError;
use cms_collectors::web::{
    Answer, Dial, Offline, OnPiece, Request, SecretPlace, Server, Site, Stream, Web, malformed,
};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Answers come in pieces of this many bytes, so that none ends where a line does.
const PIECE: usize = 1_000;

#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

#[derive(Debug)]
struct Place {
    folder: PathBuf,
    site: Site,
}

/// The first answer that fits is given.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Script {
    answer: Vec<Scripted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scripted {
    /// The path that is asked for.
    path: String,
    /// What stands in the decoded body of the question.
    #[serde(default)]
    asked: String,
    #[serde(default = "good")]
    status: u16,
    #[serde(default)]
    content_type: String,
    /// A file below `http/`.
    file: Option<String>,
    /// Or the answer itself.
    #[serde(default)]
    text: String,
}

const fn good() -> u16 {
    200
}

impl Files {
    pub(super) fn below(root: &Path) -> Self {
        Self(root.join("http"))
    }
}

#[async_trait]
impl Web for Files {
    fn open(&self, site: &Site) -> Result<Arc<dyn Server>, CollectError> {
        Ok(Arc::new(Place {
            folder: self.0.clone(),
            site: site.clone(),
        }))
    }

    async fn dial(&self, to: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        Offline.dial(to).await
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        Offline.secret(place)
    }
}

#[async_trait]
impl Server for Place {
    async fn ask(
        &self,
        request: &Request<'_>,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Answer, CollectError> {
        let url = self.site.address().url(request.path);
        let text = fs::read_to_string(self.folder.join("answers.toml")).unwrap_or_default();
        let script: Script =
            toml::from_str(&text).map_err(|error| malformed(&url, &error.to_string()))?;
        let path = format!("{}{}", self.site.address().path(), request.path);
        let asked = request
            .body
            .map_or(String::new(), |body| decoded(body.bytes));
        let fits = |one: &&Scripted| one.path == path && asked.contains(&one.asked);
        let Some(found) = script.answer.iter().find(fits) else {
            return Ok(Answer {
                status: 404,
                ..Answer::default()
            });
        };
        let body = match &found.file {
            Some(file) => fs::read(self.folder.join(file))
                .map_err(|error| CollectError::from_io(Path::new(file), error))?,
            None => found.text.clone().into_bytes(),
        };
        let mut answer = Answer {
            status: found.status,
            headers: vec![("content-type".to_owned(), found.content_type.clone())],
            refusal: Vec::new(),
        };
        if answer.is_good() {
            body.chunks(PIECE).try_for_each(on_piece)?;
        } else {
            answer.refusal = body;
        }
        Ok(answer)
    }
}

/// A form as it was before it was encoded.
fn decoded(form: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(form.len());
    let mut rest = form.iter();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        let coded = (*byte == b'%')
            .then(|| Some(digit()? * 16 + digit()?))
            .flatten();
        bytes.push(
            coded
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(*byte),
        );
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
