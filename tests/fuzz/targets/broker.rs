//! MQTT: filters that people write, topics and payloads that anybody publishes.

use std::time::Duration;

use cms_collectors::thermal::document::select::Select;
use cms_collectors::thermal::mqtt::payload::Places;
use cms_collectors::thermal::mqtt::probe::{Look, Topics, Version};
use cms_collectors::thermal::mqtt::topic::Filter;
use jiff::Timestamp;

/// A filter, a place in JSON and a topic on a line each; the rest is the payload.
pub(crate) fn mqtt(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let (Some(filter), Some(place), Some(topic), Some(payload)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let text = |bytes| std::str::from_utf8(bytes).ok();
    if let Some(Ok(filter)) = text(filter).map(Filter::new) {
        assert_eq!(Filter::new(filter.as_str()), Ok(filter.clone()));
        assert!(filter.is_wild() || filter.fits(filter.as_str()));
        let _fits = text(topic).map(|topic| filter.fits(topic));
    }
    let place = text(place).and_then(|place| Select::parse(place).ok());
    let time = place.clone();
    for places in [Places::default(), Places { value: place, time }] {
        if let Err(why) = places.read(payload) {
            assert!(!why.is_empty());
        }
    }
    let (Some(topic), Ok(at)) = (text(topic), Timestamp::from_second(1_768_564_800)) else {
        return;
    };
    let mut topics = Topics::default();
    topics.hear(topic, payload, false);
    topics.hear("site/power_kw", payload, true);
    shown(&topics, at);
}

/// What is shown moves no cursor, and what is printed is a configuration.
fn shown(topics: &Topics, at: Timestamp) {
    let look = Look {
        broker: "mqtts://localhost".parse().expect("a broker"),
        filters: vec![Filter::new("#").expect("a filter")],
        login: None,
        tls: None,
        version: Version::V5,
        client_id: None,
        listens: Duration::from_secs(10),
    };
    let report = topics.report(&look, at);
    let is_quiet = |text: &str| !text.chars().any(char::is_control);
    assert!(report.found.iter().all(|line| is_quiet(line)));
    assert!(report.table.lines().all(is_quiet));
    let table: toml::Table = report.table.parse().expect("it is TOML");
    let points = table["thermal"].get("points");
    let points = points.and_then(toml::Value::as_table).into_iter().flatten();
    for (_, point) in points {
        let topic = point["mqtt"]["topic"].as_str().expect("a topic");
        assert!(Filter::new(topic).is_ok_and(|filter| !filter.is_wild()));
        if let Some(place) = point["mqtt"].get("json") {
            assert!(Select::parse(place.as_str().expect("a place")).is_ok());
        }
    }
}
