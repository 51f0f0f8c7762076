//! A ledger for the tests: what an agent would write, line by line.

use cms_attest::bundle::{
    BodyLine, Bytes, FORMAT, HeaderLine, KeysLine, LeafLine, Line, ReceiptLine, Seal,
};
use cms_attest::leaf::{Body, Leaf, LeafKind, Note};
use cms_attest::succession::{Announced, log_key};
use cms_attest::{Checkpoint, Cosigner, Frontier, Jwk, Origin, SigningKey, Succession};
use cms_spec::payload::v1::HeatRecovery;
use cms_spec::payload::{AgentInfo, Data, Delivery, Envelope, Role, SCHEMA};
use cms_spec::{Category, Slot, heat};
use jiff::{SignedDuration, Timestamp};

const AGENT: &str = "018f4d2a-7b1c-7def-8123-456789abcdef";

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&[byte; 32]).unwrap()
}

/// A witness that is not the dashboard.
pub(crate) fn witness(byte: u8) -> Cosigner {
    Cosigner::new(format!("w{byte}.example").parse().unwrap(), key(byte))
}

pub(crate) fn cosigner(byte: u8) -> Cosigner {
    Cosigner::new("dash.example".parse().unwrap(), key(byte))
}

/// The start of a slot.
pub(crate) fn quarter(number: i64) -> Timestamp {
    Timestamp::from_second(1_772_000_100 + number * 900).unwrap()
}

pub(crate) struct Ledger {
    lines: Vec<Line>,
    period: (Timestamp, Timestamp),
    epoch: u64,
    frontier: Frontier,
    boottime_ms: u64,
    /// Seconds that the wall clock is off.
    off: i64,
    cosigner: bool,
    /// The key of the ledger that the bundle names.
    log: u8,
    /// The dashboard's.
    dashboard: u8,
    successions: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(from: Timestamp, to: Timestamp) -> Self {
        Self {
            lines: Vec::new(),
            period: (from, to),
            epoch: 1,
            frontier: Frontier::default(),
            boottime_ms: 100_000,
            off: 0,
            cosigner: true,
            log: 2,
            dashboard: 9,
            successions: Vec::new(),
        }
    }

    pub(crate) fn without_cosigner(&mut self) -> &mut Self {
        self.cosigner = false;
        self
    }

    pub(crate) fn epoch(&mut self, epoch: u64) -> &mut Self {
        self.epoch = epoch;
        self.frontier = Frontier::default();
        self
    }

    /// Names these keys of the ledger and of the dashboard.
    pub(crate) fn named(&mut self, log: u8, dashboard: u8) -> &mut Self {
        (self.log, self.dashboard) = (log, dashboard);
        self
    }

    /// Says that one key of the ledger took another's place.
    pub(crate) fn log_follows(&mut self, from: u8, to: u8) -> &mut Self {
        let agent = AGENT.parse().unwrap();
        let succession = Succession::of_logs(&agent, &key(from), &key(to)).unwrap();
        self.successions.push(succession.to_string());
        self
    }

    /// Says that one key of the dashboard took another's place.
    pub(crate) fn dashboard_follows(&mut self, from: u8, to: u8) -> &mut Self {
        let [from, to] = [from, to].map(cosigner);
        let succession = Succession::of_cosigners(&from, &to, quarter(3)).unwrap();
        self.successions.push(succession.to_string());
        self
    }

    /// The leaf that announces a key of the ledger.
    pub(crate) fn announce(&mut self, new: u8) -> &mut Self {
        let agent = AGENT.parse().unwrap();
        let new = Announced::Log(log_key(&agent, *key(new).verifying()).unwrap());
        let at = quarter(2);
        let note = new.to_string();
        self.leaf(LeafKind::KeyRotate, None, (at, at), None, Some(&note))
    }

    pub(crate) fn step(&mut self, seconds: i64) -> &mut Self {
        self.off = seconds;
        self
    }

    pub(crate) fn boottime_back(&mut self) -> &mut Self {
        self.boottime_ms -= 5_000;
        self
    }

    pub(crate) fn event(&mut self, note: &str) -> &mut Self {
        let (kind, near) = match note {
            // Long after everything else.
            "stop" => (LeafKind::Stop, quarter(6)),
            _ => (LeafKind::Start, quarter(1)),
        };
        let at = near + SignedDuration::from_millis(self.boottime_ms.cast_signed());
        let at = at + SignedDuration::from_secs(self.off);
        self.leaf(kind, None, (at, at), None, Some(note))
    }

    pub(crate) fn gap(&mut self, slot: i64) -> &mut Self {
        let span = (quarter(slot), quarter(slot + 1));
        let category = Some(Category::HeatRecovery);
        self.leaf(LeafKind::Gap, category, span, None, Some("nothing"))
    }

    pub(crate) fn submission(&mut self, slot: i64) -> &mut Self {
        let index = self.frontier.size();
        self.numbered(slot, index)
    }

    /// A submission whose body says that it is of this index.
    pub(crate) fn numbered(&mut self, slot: i64, sequence: u64) -> &mut Self {
        let bytes = body(slot, sequence);
        self.submitted(slot, bytes)
    }

    /// A submission whose figures do not add up.
    pub(crate) fn impossible(&mut self, slot: i64) -> &mut Self {
        let text = String::from_utf8(body(slot, self.frontier.size())).unwrap();
        let said = "\"total_thermal_output_kw\":0,";
        assert!(text.contains(said), "{text}");
        let text = text.replace(said, "\"total_thermal_output_kw\":9.5,");
        self.submitted(slot, text.into_bytes())
    }

    /// A submission whose body would draw on a terminal if it were quoted as it stands.
    pub(crate) fn drawing(&mut self, slot: i64) -> &mut Self {
        let text = format!("{{\"data\":{{\"\\u001b[2J{}\":0}}}}", "x".repeat(10_000));
        self.submitted(slot, text.into_bytes())
    }

    fn submitted(&mut self, slot: i64, bytes: Vec<u8>) -> &mut Self {
        let span = (quarter(slot), quarter(slot + 1));
        let (epoch, index) = (self.epoch, self.frontier.size());
        let category = Some(Category::HeatRecovery);
        let described = Some(Body::of(&bytes));
        self.leaf(LeafKind::Submission, category, span, described, None);
        if self.period.0 < span.1 && span.1 <= self.period.1 {
            self.lines.push(Line::Body(BodyLine {
                epoch,
                index,
                bytes: Bytes(bytes),
            }));
        }
        self
    }

    fn leaf(
        &mut self,
        kind: LeafKind,
        category: Option<Category>,
        (from, to): (Timestamp, Timestamp),
        body: Option<Body>,
        note: Option<&str>,
    ) -> &mut Self {
        let leaf = Leaf {
            origin: self.origin(),
            index: self.frontier.size(),
            kind,
            category,
            from,
            to,
            boot_id: "boot".parse().unwrap(),
            boottime_ms: self.boottime_ms,
            api_key_id: None,
            body,
            note: note.and_then(Note::of),
        };
        self.boottime_ms += 1_000;
        self.lines.push(Line::Leaf(LeafLine {
            epoch: self.epoch,
            index: leaf.index,
            record: leaf.to_string(),
        }));
        self.frontier.append(leaf.hash());
        self
    }

    pub(crate) fn receipt(&mut self) -> &mut Self {
        self.receipt_by(&[2], 9)
    }

    /// A receipt that these keys of the ledger and this one of the dashboard have signed.
    pub(crate) fn receipt_by(&mut self, log: &[u8], dashboard: u8) -> &mut Self {
        let keys: Vec<SigningKey> = log.iter().map(|byte| key(*byte)).collect();
        let keys: Vec<&SigningKey> = keys.iter().collect();
        let checkpoint = Checkpoint {
            origin: self.origin(),
            head: self.frontier.head(),
        };
        self.lines.push(Line::Receipt(ReceiptLine {
            epoch: self.epoch,
            size: self.frontier.size(),
            note: checkpoint.sign_with(&keys).unwrap(),
            witness: None,
            cosignature: cosigner(dashboard).cosign(&checkpoint, quarter(9)),
        }));
        self
    }

    /// What a witness has signed of the head.
    pub(crate) fn witnessed(&mut self, byte: u8) -> &mut Self {
        let checkpoint = Checkpoint {
            origin: self.origin(),
            head: self.frontier.head(),
        };
        let witness = witness(byte);
        self.lines.push(Line::Receipt(ReceiptLine {
            epoch: self.epoch,
            size: self.frontier.size(),
            note: checkpoint.sign(&key(2)).unwrap(),
            witness: Some(witness.published().to_string()),
            cosignature: witness.cosign(&checkpoint, quarter(9)),
        }));
        self
    }

    pub(crate) fn lines(&self) -> Vec<Vec<u8>> {
        let header = Line::Header(HeaderLine {
            format: FORMAT.to_owned(),
            from: self.period.0,
            to: self.period.1,
        });
        let keys = Line::Keys(KeysLine {
            request: Jwk::from(*key(1).verifying()),
            log: Jwk::from(*key(self.log).verifying()),
            cosigner: self
                .cosigner
                .then(|| cosigner(self.dashboard).published().to_string()),
            successions: self.successions.clone(),
        });
        let mut seal = Seal::default();
        let head = [header, keys];
        let mut lines: Vec<Vec<u8>> = head
            .iter()
            .chain(&self.lines)
            .map(|line| seal.line(line).unwrap())
            .collect();
        let end = seal.end();
        lines.push(seal.line(&Line::End(end)).unwrap());
        lines
    }

    fn origin(&self) -> Origin {
        Origin::new(
            "acme-corp".parse().unwrap(),
            AGENT.parse().unwrap(),
            self.epoch,
        )
    }
}

fn body(slot: i64, sequence: u64) -> Vec<u8> {
    let envelope = Envelope {
        company_id: "acme-corp".parse().unwrap(),
        timestamp: quarter(slot + 1),
        data: Data::HeatRecovery(HeatRecovery {
            thermal_sources: Vec::new(),
            summary: heat::summary(&[]),
        }),
        agent: Some(AgentInfo {
            agent_id: AGENT.to_owned(),
            version: "0.1.0".to_owned(),
            site: None,
            role: Role::Node,
            slot: Slot {
                start: quarter(slot),
                end: quarter(slot + 1),
            },
            sequence,
            delivery: Delivery::Live,
            schema: SCHEMA.to_owned(),
        }),
        provenance: Vec::new(),
    };
    serde_json::to_vec(&envelope).unwrap()
}
