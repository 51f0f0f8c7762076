//! One question to a management controller, and whether its failure is the controller's or the
//! resource's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::resource::Resource;
use crate::CollectError;
use crate::web::{Answer, Request, Server, Site, Web, denied};

/// Slow controllers take seconds for one resource; longer than this one is busy with something else.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// A resource of power has some kilobytes; `Power` of a chassis with many supplies some dozens.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// The login is refused.
const UNAUTHORIZED: u16 = 401;

/// A controller, by the address that its table gives.
#[derive(Debug)]
pub(super) struct Controller {
    web: Arc<dyn Web>,
    site: Site,
    /// Its client, from the first question on.
    server: Option<Arc<dyn Server>>,
}

/// Why a resource was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The controller cannot be asked at all, so that it is of no use to go on.
    Controller(CollectError),
    /// It refuses who we are; asking again too often locks accounts.
    Refused(CollectError),
    /// This resource is of no use, others may be.
    Resource(String),
}

impl Controller {
    pub(super) const fn new(web: Arc<dyn Web>, site: Site) -> Self {
        Self {
            web,
            site,
            server: None,
        }
    }

    /// Its client, where it has been asked.
    pub(super) const fn server(&self) -> Option<&Arc<dyn Server>> {
        self.server.as_ref()
    }

    /// Reads a resource.
    pub(super) async fn take(&mut self, path: &str) -> Result<Resource, Unread> {
        let server = match &self.server {
            Some(server) => server,
            // A certificate file that is missing now may be there at the next poll.
            None => self
                .server
                .insert(self.web.open(&self.site).map_err(Unread::Controller)?),
        };
        let request = Request {
            path,
            body: None,
            headers: &[("accept", "application/json"), ("odata-version", "4.0")],
            within: ANSWER_WITHIN,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let mut taken = Vec::new();
        let mut on_piece = |piece: &[u8]| {
            taken.extend_from_slice(piece);
            Ok(())
        };
        let answer = match server.ask(&request, &mut on_piece).await {
            Ok(answer) => answer,
            Err(CollectError::Malformed { what, found }) => {
                return Err(Unread::Resource(format!("{what} makes no sense: {found}")));
            }
            Err(error) => return Err(Unread::Controller(error)),
        };
        if !answer.is_good() {
            return Err(refusal(&self.site.address().to_string(), path, &answer));
        }
        Resource::read(path, &taken).map_err(|found| Unread::Resource(format!("{path}: {found}")))
    }
}

fn refusal(address: &str, path: &str, answer: &Answer) -> Unread {
    let status = answer.status;
    let reason = match answer.reason() {
        reason if reason.is_empty() => format!("HTTP {status}"),
        reason => format!("HTTP {status}: {reason}"),
    };
    match status {
        UNAUTHORIZED => Unread::Refused(denied(
            address,
            "the login is refused: check user and password of compute.power.redfish, then \
             reload the agent; until then it asks rarely, so that the account is not locked",
            io::Error::new(io::ErrorKind::PermissionDenied, reason),
        )),
        403 => Unread::Resource(format!("{path} may not be read by this user ({reason})")),
        404 | 410 => Unread::Resource(format!("{path} is not there")),
        300..=399 => Unread::Resource(format!(
            "{path} redirects to {}, where the agent does not follow: put the controller's own address \
             into url",
            answer.header("location").unwrap_or("another place")
        )),
        _ => Unread::Resource(format!("{path} is not answered ({reason})")),
    }
}
