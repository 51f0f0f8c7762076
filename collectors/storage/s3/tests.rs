//! A store in memory that pages, fails and lies.

use super::*;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use zeroize::Zeroizing;

use crate::web::{Answer, Dial, Offline, OnPiece, SecretPlace, Site, Stream, Web};

/// Objects of the store's pages.
const PAGE: usize = 100;

const TABLE: &str = "url = 'https://s3.example'\nbucket = 'b'\nname = 'unit'\nusd_per_gb_month = 0.02\n\
                     access_key_id = { env = 'A' }\nsecret_access_key = { env = 'B' }\ninterval = '1h'\n";

#[derive(Clone, Debug)]
struct Stored {
    key: String,
    bytes: u64,
    modified: Timestamp,
    class: &'static str,
}

#[derive(Debug, Default)]
struct Store {
    objects: Vec<Stored>,
    /// What was asked, as path and query.
    asked: Mutex<Vec<String>>,
    /// Answers in place of the next listings; nothing is a listing after all.
    faults: Mutex<VecDeque<Option<Answer>>>,
    /// A body in place of every listing.
    lie: Option<String>,
}

#[derive(Clone, Debug)]
struct Shared(Arc<Store>);

#[async_trait]
impl Web for Shared {
    fn open(&self, _: &Site) -> Result<Arc<dyn Server>, CollectError> {
        Ok(Arc::new(self.clone()))
    }

    async fn dial(&self, to: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        Offline.dial(to).await
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        Offline.secret(place)
    }
}

#[async_trait]
impl Server for Shared {
    async fn ask(
        &self,
        request: &Request<'_>,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Answer, CollectError> {
        let store = &*self.0;
        store.asked.lock().unwrap().push(request.path.to_owned());
        if let Some(Some(answer)) = store.faults.lock().unwrap().pop_front() {
            return Ok(answer);
        }
        let text = store
            .lie
            .clone()
            .unwrap_or_else(|| store.list(request.path));
        text.as_bytes().chunks(1_000).try_for_each(on_piece)?;
        Ok(good())
    }
}

impl Store {
    fn list(&self, path: &str) -> String {
        let (_, query) = path.split_once('?').unwrap();
        let of = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(found, _)| *found == name)?;
            Some(String::from_utf8(listing::decoded(value)).unwrap())
        };
        let prefix = of("prefix").unwrap_or_default();
        let after = of("continuation-token").map(|token| token.replace("behind ", ""));
        let after = after.or_else(|| of("start-after")).unwrap_or_default();
        let mut listed = self.objects.iter();
        let listed = listed
            .by_ref()
            .filter(|o| o.key.starts_with(&prefix) && o.key > after);
        let listed: Vec<&Stored> = listed.collect();
        let page = &listed[..listed.len().min(PAGE)];
        let mut text = "<ListBucketResult><EncodingType>url</EncodingType>".to_owned();
        if listed.len() > PAGE {
            let last = &page[PAGE - 1].key;
            write!(
                text,
                "<IsTruncated>true</IsTruncated><NextContinuationToken>behind {last}</NextContinuationToken>"
            )
            .unwrap();
        } else {
            text += "<IsTruncated>false</IsTruncated>";
        }
        for object in page {
            write!(
                text,
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><Size>{}</Size><StorageClass>{}</StorageClass></Contents>",
                listing::encoded(object.key.as_bytes()),
                object.modified,
                object.bytes,
                object.class,
            )
            .unwrap();
        }
        text + "</ListBucketResult>"
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn fail(&self, answers: impl IntoIterator<Item = Option<Answer>>) {
        self.faults.lock().unwrap().extend(answers);
    }
}

fn good() -> Answer {
    Answer {
        status: 200,
        ..Answer::default()
    }
}

fn refused(status: u16, code: &str, more: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a\nreason</Message>{more}</Error>"
    );
    Answer {
        status,
        headers: vec![(
            "date".to_owned(),
            "Mon, 05 Jan 2026 11:00:00 GMT".to_owned(),
        )],
        refusal: body.into_bytes(),
    }
}

fn at(text: &str) -> Timestamp {
    format!("2026-01-{text}Z").parse().unwrap()
}

fn noon() -> Timestamp {
    at("05T12:00:00")
}

/// As many objects, one a day older than the other, every third one in the other class.
fn store(objects: usize) -> Store {
    let objects = (0..objects).map(|n| Stored {
        key: format!("team{}/secret {n:05}", n % 3),
        bytes: 1_000_000 + u64::try_from(n).unwrap(),
        modified: noon() - SignedDuration::from_hours(24 * i64::try_from(n).unwrap()),
        class: if n % 3 == 0 { "GLACIER" } else { "STANDARD" },
    });
    let mut objects: Vec<Stored> = objects.collect();
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    Store {
        objects,
        ..Store::default()
    }
}

fn collector(store: &Arc<Store>, more: &str) -> Box<dyn Collector> {
    let config: Config = toml::from_str(&format!("{TABLE}{more}")).unwrap();
    let web = Arc::new(Shared(Arc::clone(store)));
    let host = Host::local("host".parse().unwrap(), "site".to_owned(), web);
    crate::Settings::open(&config, &host).unwrap()
}

fn tick(
    collector: &mut dyn Collector,
    at: Timestamp,
    out: &mut Readings,
) -> Result<(), CollectError> {
    let mut context = Context::from_waker(Waker::noop());
    match collector.collect(at, out).as_mut().poll(&mut context) {
        Poll::Ready(told) => told,
        Poll::Pending => panic!("this store answers at once"),
    }
}

/// Ticks every five seconds until a scan is told.
fn told(collector: &mut dyn Collector, mut at: Timestamp) -> Vec<StorageScan> {
    let mut out = Readings::default();
    while out.is_empty() {
        tick(collector, at, &mut out).unwrap();
        at += RETRY_FIRST;
    }
    scans(out)
}

fn scans(out: Readings) -> Vec<StorageScan> {
    let sample = out.stamp("storage/s3", noon(), "b");
    let scans = sample.snapshots.into_iter().map(|snapshot| match snapshot {
        Snapshot::Storage(scan) => scan,
        other => panic!("{other:?}"),
    });
    scans.collect()
}

fn words(error: &CollectError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{}: {error}: {}", error.class(), source.unwrap_or_default())
}

#[test]
fn a_listing_of_many_pages_is_one_unit_with_its_ages_and_classes() {
    let store = Arc::new(store(1_250));
    let told = told(
        &mut *collector(&store, "price = { GLACIER = 0.004 }\n"),
        noon(),
    );
    assert_eq!(store.asked().len(), 13);
    let [scan] = told.as_slice() else {
        panic!("{told:?}")
    };
    let sum = |days: std::ops::Range<u64>| days.map(|n| 1_000_000 + n).sum::<u64>();
    // An object of exactly 180 days is not older than 180 days.
    assert_eq!((scan.active.objects, scan.dark.objects), (181, 1_069));
    assert_eq!(
        (scan.active.bytes.0, scan.dark.bytes.0),
        (sum(0..181), sum(181..1_250))
    );
    assert_eq!(scan.basis, AccessBasis::LastModified);
    let ages: Vec<u64> = scan.ages.rows().map(|(_, age)| age.objects).collect();
    assert_eq!(ages, [31, 60, 90, 185, 365, 519, 0]);
    let glacier: u64 = (0..1_250).step_by(3).map(|n| 1_000_000 + n).sum();
    let shares: Vec<(&str, u64)> = scan
        .classes
        .iter()
        .map(|share| (share.storage_class.as_str(), share.active.0 + share.dark.0))
        .collect();
    assert_eq!(
        shares,
        [("GLACIER", glacier), ("STANDARD", sum(0..1_250) - glacier)]
    );
    let rows = cms_spec::dark::rows(scan);
    assert_eq!(rows[1].storage_class, "STANDARD, GLACIER");
    // 0.3565 GB at 0.004 and 0.7132 GB at 0.02.
    assert_eq!(rows[1].monthly_cost_usd.to_string(), "0.02");
}

#[test]
fn first_level_prefixes_are_units_and_no_key_is_told() {
    let mut store = store(30);
    store.objects.insert(0, store.objects[0].clone());
    store.objects[0].key = "at the top".to_owned();
    let store = Arc::new(store);
    let mut collector = collector(
        &store,
        "units = 'first_level'\nexclude = ['team1', '*00029']\n",
    );
    let told = told(&mut *collector, noon());
    let units: Vec<(&str, u64)> = told
        .iter()
        .map(|scan| (scan.unit.as_str(), scan.active.objects + scan.dark.objects))
        .collect();
    assert_eq!(units, [("unit", 1), ("unit/team0", 10), ("unit/team2", 9)]);
    let text = serde_json::to_string(&told).unwrap() + &collector.details().join("\n");
    assert!(
        !text.contains("secret") && !text.contains("at the top"),
        "{text}"
    );
    let kept = collector.checkpoint().unwrap();
    assert!(
        !kept.contains("secret"),
        "a scan that has ended leaves no key: {kept}"
    );
}

#[test]
fn a_prefix_is_asked_for_and_is_no_part_of_the_units() {
    let store = Arc::new(store(9));
    let mut collector = collector(&store, "prefix = 'team2/'\nexclude = ['secret 00002']\n");
    let told = told(&mut *collector, noon());
    assert_eq!(told[0].active.objects, 2);
    assert!(
        store.asked()[0].ends_with("&prefix=team2%2F"),
        "{:?}",
        store.asked()
    );
}

#[test]
fn a_listing_goes_on_after_a_restart_behind_the_last_key() {
    let store = Arc::new(store(1_000));
    let slow = "requests_per_second = 1\n";
    let whole = told(&mut *collector(&store, slow), noon());
    let before = store.asked().len();
    let mut first = collector(&store, slow);
    let mut out = Readings::default();
    tick(&mut *first, noon(), &mut out).unwrap();
    tick(&mut *first, noon() + RETRY_FIRST, &mut out).unwrap();
    let kept = first.checkpoint().unwrap();
    assert_eq!(first.progress().unwrap(), "listed 600 objects in 6 pages");

    let mut second = collector(&store, slow);
    second.resume(&kept);
    let later = noon() + SignedDuration::from_mins(3);
    assert_eq!(told(&mut *second, later)[0].dark, whole[0].dark);
    let asked = store.asked();
    assert_eq!(asked.len() - before, 10, "no page was asked for twice");
    assert!(asked[before + 6].contains("start-after=team1"), "{asked:?}");

    // Not with another order, and not after a day.
    for (more, hours) in [("prefix = 'team1/'\n", 0), ("", 24)] {
        let mut other = collector(&store, more);
        other.resume(&kept);
        let before = store.asked().len();
        let at = noon() + SignedDuration::from_hours(hours);
        tick(&mut *other, at, &mut Readings::default()).unwrap();
        assert!(!store.asked()[before].contains("start-after"));
    }
}

#[test]
fn requests_are_spread_over_time() {
    let store = Arc::new(store(5_000));
    let mut collector = collector(&store, "requests_per_second = 2\n");
    let mut out = Readings::default();
    let asked: Vec<usize> = [0, 1, 2, 7, 100]
        .map(|second| {
            let at = noon() + SignedDuration::from_secs(second);
            tick(&mut *collector, at, &mut out).unwrap();
            store.asked().len()
        })
        .to_vec();
    // One at once, two for each second, and no more than those of five seconds together.
    assert_eq!(asked, [1, 3, 5, 15, 25]);
}

#[test]
fn a_page_that_fails_is_asked_for_again_after_a_pause() {
    let store = Arc::new(store(250));
    let slow_down = || Some(refused(503, "SlowDown", ""));
    store.fail([None, slow_down(), slow_down()]);
    let mut collector = collector(&store, "");
    let mut out = Readings::default();
    let mut asked = Vec::new();
    for second in [0, 1, 4, 6, 10, 16] {
        let at = noon() + SignedDuration::from_secs(second);
        let told = tick(&mut *collector, at, &mut out);
        if let Err(error) = told {
            assert!(
                words(&error).contains("requests_per_second"),
                "{}",
                words(&error)
            );
        }
        asked.push(store.asked().len());
    }
    assert_eq!(asked, [1, 2, 2, 3, 3, 5]);
    let told = scans(out);
    assert_eq!((told[0].active.objects, told[0].dark.objects), (181, 69));
}

#[test]
fn refusals_say_what_helps() {
    for (status, code, more, class, help) in [
        (
            403,
            "AccessDenied",
            "",
            "denied",
            "s3:ListBucket on arn:aws:s3:::b",
        ),
        (
            403,
            "InvalidAccessKeyId",
            "",
            "denied",
            "check access_key_id",
        ),
        (
            403,
            "SignatureDoesNotMatch",
            "",
            "denied",
            "secret_access_key",
        ),
        (
            400,
            "ExpiredToken",
            "",
            "denied",
            "renew it together with session_token",
        ),
        (
            403,
            "RequestTimeTooSkewed",
            "",
            "denied",
            "differ by -3600 s",
        ),
        (
            400,
            "AuthorizationHeaderMalformed",
            "<Region>eu-1</Region>",
            "denied",
            "set signing_region to \"eu-1\"",
        ),
        (
            404,
            "NoSuchBucket",
            "",
            "vanished",
            "check bucket, and style",
        ),
        (
            301,
            "PermanentRedirect",
            "<Endpoint>s3.eu-1.example</Endpoint>",
            "malformed",
            "put \"s3.eu-1.example\" into url",
        ),
        (503, "SlowDown", "", "unreachable", "requests_per_second"),
        (501, "NotImplemented", "", "malformed", "ListObjectsV2"),
        (
            500,
            "InternalError",
            "",
            "unreachable",
            "InternalError: a reason",
        ),
        (418, "Odd", "", "malformed", "HTTP 418, Odd: a reason"),
    ] {
        let store = Arc::new(store(1));
        store.fail([Some(refused(status, code, more))]);
        let mut out = Readings::default();
        let error = tick(&mut *collector(&store, ""), noon(), &mut out).unwrap_err();
        let words = words(&error);
        assert!(words.starts_with(class) && words.contains(help), "{words}");
        assert!(words.contains("https://s3.example/b"), "{words}");
        assert!(out.is_empty());
    }
    let store = Arc::new(store(1));
    store.fail([Some(Answer {
        status: 502,
        refusal: b"<html><h1>Bad Gateway".to_vec(),
        ..Answer::default()
    })]);
    let mut collector = collector(&store, "");
    let error = tick(&mut *collector, noon(), &mut Readings::default()).unwrap_err();
    assert!(words(&error).starts_with("unreachable") && words(&error).contains("HTTP 502"));
}

#[test]
fn a_store_that_lies_is_an_error_and_never_an_empty_unit() {
    let circle = |token: &str| {
        format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
        )
    };
    for (lie, help) in [
        (circle("again"), "never ends"),
        ("<html><body>MinIO Console</body></html>".to_owned(), "console"),
        (
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>other/x</Key>\
             <LastModified>2026-01-05T10:00:00Z</LastModified><Size>1</Size></Contents></ListBucketResult>"
                .to_owned(),
            "not asked for",
        ),
    ] {
        let store = Arc::new(Store {
            lie: Some(lie),
            ..Store::default()
        });
        let mut out = Readings::default();
        let mut collector = collector(&store, "prefix = 'mine/'\n");
        let mut told = Ok(());
        for second in 0..2 {
            let at = noon() + SignedDuration::from_secs(second);
            told = told.and(tick(&mut *collector, at, &mut out));
        }
        let error = told.unwrap_err();
        assert!(words(&error).contains(help), "{}", words(&error));
        assert!(out.is_empty() && collector.progress().is_none());
    }
}

#[test]
fn a_circle_of_any_length_is_found() {
    for length in [1, 2, 3, 100] {
        let mut scan = Scan::begin(noon());
        let order = Order {
            prefix: "",
            exclude: &[],
            is_split: false,
        };
        let turned = (0..).find(|turn| {
            let page = listing::Page {
                objects: Vec::new(),
                // It does not begin with the circle.
                next: Some(if *turn < 10 {
                    format!("before {turn}")
                } else {
                    (turn % length).to_string()
                }),
            };
            scan.take(&page, &order).is_err()
        });
        assert!(turned.unwrap() < 4 * length + 40, "{length}: {turned:?}");
    }
}

#[test]
fn a_place_that_the_store_has_forgotten_is_found_again_by_the_last_key() {
    let store = Arc::new(store(250));
    store.fail([None, Some(refused(400, "InvalidArgument", ""))]);
    let told = told(&mut *collector(&store, ""), noon());
    assert_eq!(told[0].active.objects + told[0].dark.objects, 250);
    let asked = store.asked();
    assert!(asked[1].contains("continuation-token") && asked[2].contains("start-after"));
}

#[test]
fn a_listing_that_lasts_longer_than_a_day_is_given_up_and_begun_anew() {
    let store = Arc::new(store(6_000));
    let mut collector = collector(&store, "");
    let mut out = Readings::default();
    tick(&mut *collector, noon(), &mut out).unwrap();
    // A day's allowance is no more than that of one tick, which is not enough.
    let tomorrow = noon() + SignedDuration::from_hours(24);
    let error = tick(&mut *collector, tomorrow, &mut out).unwrap_err();
    assert!(
        words(&error).contains("larger requests_per_second"),
        "{}",
        words(&error)
    );
    assert!(out.is_empty());
    tick(&mut *collector, tomorrow + RETRY_FIRST, &mut out).unwrap();
    let last = store.asked().pop().unwrap();
    assert!(last.contains("continuation-token"), "{last}");
    assert_eq!(store.asked()[51], store.asked()[0], "it began anew");
}

#[test]
fn an_empty_bucket_is_told_as_such_and_the_next_scan_waits() {
    let store = Arc::new(Store::default());
    let mut collector = collector(&store, "");
    let told = told(&mut *collector, noon());
    assert_eq!((told[0].active.objects, told[0].unit.as_str()), (0, "unit"));
    let mut out = Readings::default();
    let soon = noon() + SignedDuration::from_mins(59);
    tick(&mut *collector, soon, &mut out).unwrap();
    assert_eq!(store.asked().len(), 1);
    tick(
        &mut *collector,
        noon() + SignedDuration::from_hours(1),
        &mut out,
    )
    .unwrap();
    assert_eq!(store.asked().len(), 2);
}
