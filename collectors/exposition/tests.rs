//! What is valid is read as it was meant, what is not is counted, and nothing panics.

use proptest::prelude::*;

use super::*;

/// Names and values of labels.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// The samples of a page in an owned form: name, labels, value, timestamp.
type Row = (String, Vec<(String, String)>, String, Option<String>);

fn read(page: &str) -> (Vec<Row>, Found) {
    in_pieces(page.as_bytes(), page.len().max(1))
}

fn in_pieces(page: &[u8], length: usize) -> (Vec<Row>, Found) {
    let mut rows = Vec::new();
    let mut on_item = |item: Item<'_>| {
        if let Item::Sample(sample) = item {
            rows.push(row(&sample));
        }
    };
    let mut reader = Reader::new();
    for piece in page.chunks(length) {
        reader.feed(piece, &mut on_item);
    }
    let found = reader.finish(&mut on_item);
    (rows, found)
}

fn row(sample: &Sample<'_>) -> Row {
    let text = |text: Text<'_>| text.to_cow().into_owned();
    let labels = sample.labels.iter();
    (
        text(sample.name),
        labels.map(|l| (text(l.name), text(l.value))).collect(),
        sample.value.to_string(),
        sample.timestamp.map(str::to_owned),
    )
}

fn one(line: &str) -> Row {
    let (mut rows, found) = read(line);
    assert_eq!(found.bad_lines, 0, "{line}: {:?}", found.faults);
    assert_eq!(rows.len(), 1, "{line}");
    rows.remove(0)
}

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn names_and_labels_as_servers_write_them() {
    let cases: [(&str, &str, Pairs<'_>); _] = [
        (
            "vllm:num_requests_running{model_name=\"a/b\"} 1",
            "vllm:num_requests_running",
            &[("model_name", "a/b")],
        ),
        ("job:up:rate5m 1", "job:up:rate5m", &[]),
        ("m{path=\"a,b\"} 1", "m", &[("path", "a,b")]),
        (
            "m{q=\"a=b\",r=\"a}b\"} 1",
            "m",
            &[("q", "a=b"), ("r", "a}b")],
        ),
        ("m{a=\"é,ü\"} 1", "m", &[("a", "é,ü")]),
        ("m{} 1", "m", &[]),
        ("m {a=\"b\"} 1", "m", &[("a", "b")]),
        ("m{a=\"b\"}1", "m", &[("a", "b")]),
        (
            "  m\t{ a = \"b\" , c=\"d\" , }\t1  ",
            "m",
            &[("a", "b"), ("c", "d")],
        ),
        ("{\"my.metric\",a=\"b\"} 1", "my.metric", &[("a", "b")]),
        ("{\"my metric\"} 1", "my metric", &[]),
        (
            "m{\"server.address\"=\"b\"} 1",
            "m",
            &[("server.address", "b")],
        ),
        (
            "m{a=\"x\\\\y\\n\\\"z\\\"\\t\"} 1",
            "m",
            &[("a", "x\\y\n\"z\"\\t")],
        ),
        ("m{a=\"\"} 1\r", "m", &[("a", "")]),
    ];
    for (line, name, pairs) in cases {
        let row = one(line);
        assert_eq!((row.0.as_str(), row.1), (name, labels(pairs)), "{line}");
        assert_eq!((row.2.as_str(), row.3), ("1", None), "{line}");
    }
}

#[test]
fn values_timestamps_and_exemplars() {
    let cases = [
        (
            "m 1395066363000 1395066363000",
            "1395066363000",
            Some("1395066363000"),
        ),
        ("m NaN", "NaN", None),
        ("m +Inf", "inf", None),
        ("m -Inf", "-inf", None),
        ("m 1.5e-3", "0.0015", None),
        ("m -0.25 -1", "-0.25", Some("-1")),
        (
            "m_bucket{le=\"0.1\"} 8 1.5 # {trace_id=\"a # b\"} 0.067 1395066363.5",
            "8",
            Some("1.5"),
        ),
        ("m_total 8 # {} 1", "8", None),
    ];
    for (line, value, timestamp) in cases {
        let row = one(line);
        assert_eq!(
            (row.2.as_str(), row.3.as_deref()),
            (value, timestamp),
            "{line}"
        );
    }
    let mut exemplars = Vec::new();
    let mut reader = Reader::new();
    reader.feed(b"a 1 # {t=\"x\"} 2.5 7\n", &mut |item| {
        if let Item::Sample(sample) = item {
            exemplars.extend(
                sample
                    .exemplar()
                    .map(|e| (format!("{:?}", e.labels), e.value)),
            );
        }
    });
    assert_eq!(exemplars, [("{\"t\": \"x\"}".to_owned(), 2.5)]);
}

#[test]
fn a_timestamp_is_in_milliseconds_or_has_a_fraction() {
    let ms = |line: &str, is_open_metrics| {
        let mut found = None;
        let mut reader = Reader::new();
        reader.feed(format!("{line}\n").as_bytes(), &mut |item| {
            if let Item::Sample(sample) = item {
                found = sample.timestamp_ms(is_open_metrics);
            }
        });
        found
    };
    assert_eq!(ms("m 1 1395066363000", false), Some(1_395_066_363_000));
    assert_eq!(ms("m 1 1395066363", true), Some(1_395_066_363_000));
    assert_eq!(ms("m 1 1395066363.5", true), Some(1_395_066_363_500));
    assert_eq!(ms("m 1 1395066363.5", false), Some(1_395_066_363_500));
    assert_eq!(ms("m 1", false), None);
    assert_eq!(ms("m 1 1e300", false), None);
}

#[test]
fn statements_about_families() {
    let page = "# HELP m what\\nit \\\\ is\n# TYPE m counter\n#\tUNIT m seconds\n# a comment\n# HELP\n# TYPE \"x.y\" gaugehistogram\n# EOF\n";
    let mut items = Vec::new();
    let mut on_item = |item: Item<'_>| items.push(format!("{item:?}"));
    let mut reader = Reader::new();
    reader.feed(page.as_bytes(), &mut on_item);
    let found = reader.finish(&mut on_item);
    assert_eq!(
        items,
        [
            "Help { name: \"m\", text: \"what\\nit \\\\ is\" }",
            "Type { name: \"m\", kind: Counter }",
            "Unit { name: \"m\", unit: \"seconds\" }",
            "Type { name: \"x.y\", kind: GaugeHistogram }",
            "Eof",
        ]
    );
    assert!(found.is_complete && found.bad_lines == 0 && found.lines == 7);
}

#[test]
fn bad_lines_are_counted_and_cost_no_other_line() {
    let cases = [
        ("m", "its value is missing"),
        ("m x", "its value is not a number"),
        ("m 1e400", "its value is beyond all numbers"),
        ("m 1 2 3", "there is more after the timestamp"),
        ("m 1 now", "its timestamp is not a number"),
        ("1m 1", "its name has a character that a name cannot have"),
        ("m-x 1", "its name has a character that a name cannot have"),
        ("{a=\"b\"} 1", "it begins with no name"),
        ("{} 1", "it begins with no name"),
        ("m{a=\"b} 1", "a quote does not end"),
        ("m{a=\"b\\", "a quote does not end"),
        ("m{a=b} 1", "a quote is missing"),
        (
            "m{a=\"b\" c=\"d\"} 1",
            "there is no comma between two labels",
        ),
        ("m{a=\"b\", 1", "a label has a name that none can have"),
        ("m{a:b=\"c\"} 1", "a label has no value"),
        ("m{a=\"b\",", "its labels do not end"),
        ("m{a} 1", "a label has no value"),
        ("m 1 # x", "its exemplar has no labels"),
        ("# TYPE m countr", "there is no such type"),
        (
            "# TYPE m-x counter",
            "its name has a character that a name cannot have",
        ),
        ("# HELP {}", "a name is missing"),
        (
            "<!DOCTYPE html>",
            "its name has a character that a name cannot have",
        ),
    ];
    for (line, reason) in cases {
        let (rows, found) = read(&format!("a 1\n{line}\nb 2"));
        assert_eq!(rows.len(), 2, "{line}");
        assert_eq!(found.faults, [Fault { line: 2, reason }], "{line}");
    }
    let (rows, found) = in_pieces(b"a 1\nm{a=\"\xff\"} 1\nb 2\n# EOF\nc 3\n", 3);
    assert_eq!((rows.len(), found.bad_lines), (2, 2));
    assert_eq!(
        found.bad_lines_in_words().unwrap(),
        "2 bad lines, the first one: line 2: it is not UTF-8"
    );
    assert!(found.is_complete);
}

#[test]
fn only_so_many_faults_are_kept() {
    let (_, found) = read(&"?\n".repeat(1_000));
    assert_eq!((found.bad_lines, found.faults.len()), (1_000, FAULTS_KEPT));
}

#[test]
fn a_line_without_an_end_does_not_fill_memory() {
    let mut reader = Reader::new();
    let mut samples = 0;
    let mut on_item = |_: Item<'_>| samples += 1;
    for _ in 0..1_000 {
        reader.feed(&[b'x'; 1_000], &mut on_item);
        assert!(reader.begun.capacity() <= 2 * LINE_BYTES_MAX);
    }
    reader.feed(b"\na 1\n", &mut on_item);
    let found = reader.finish(&mut on_item);
    assert_eq!((samples, found.lines), (1, 2));
    assert_eq!(found.faults[0].reason, line::TOO_LONG);
    let long = format!("m{{a=\"{}\"}} 1\n", "x".repeat(LINE_BYTES_MAX));
    assert_eq!(read(&long).1.faults[0].reason, line::TOO_LONG);
}

/// A sample that is valid, as it is written and as it must be read.
fn sample() -> impl Strategy<Value = (String, Row)> {
    let name = "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}";
    let label = ("[a-zA-Z_][a-zA-Z0-9_]{0,8}", any::<String>());
    let value = prop_oneof![any::<f64>(), any::<i32>().prop_map(f64::from)];
    let labels = prop::collection::vec(label, 0..6);
    (name, labels, value, prop::option::of(any::<i64>())).prop_map(
        |(name, labels, value, timestamp)| {
            let escaped = |text: &str| {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                text.replace('\n', "\\n")
            };
            let pairs: Vec<_> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let mut line = format!("{name}{{{}}} {value}", pairs.join(","));
            if let Some(timestamp) = timestamp {
                line += &format!(" {timestamp}");
            }
            let timestamp = timestamp.map(|t| t.to_string());
            (line, (name, labels, value.to_string(), timestamp))
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(samples in prop::collection::vec(sample(), 0..20), piece in 1_usize..200) {
        let page: String = samples.iter().map(|(line, _)| format!("{line}\n")).collect();
        let (rows, found) = in_pieces(page.as_bytes(), piece);
        let expected: Vec<_> = samples.into_iter().map(|(_, row)| row).collect();
        prop_assert_eq!(&found.faults, &[]);
        prop_assert_eq!(rows, expected);
    }

    #[test]
    fn every_line_is_accounted_for(page in "[ma{}=\",#\\\\ \n1.eE+:TYPEOF-]{0,200}", piece in 1_usize..50) {
        let mut items = 0;
        let mut reader = Reader::new();
        for piece in page.as_bytes().chunks(piece) {
            reader.feed(piece, &mut |_| items += 1);
        }
        let found = reader.finish(&mut |_| items += 1);
        let said = page.lines().filter(|line| {
            let line = line.trim_matches([' ', '\t']);
            !line.is_empty() && !line.starts_with('#')
        });
        prop_assert!(found.lines >= items + found.bad_lines);
        prop_assert!(found.samples + found.bad_lines >= said.count() as u64);
        let whole = in_pieces(page.as_bytes(), page.len().max(1)).1;
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn no_bytes_make_it_panic(page in prop::collection::vec(any::<u8>(), 0..2_000), piece in 1_usize..300) {
        in_pieces(&page, piece);
    }

    /// Where the other parser is right: plain names, label values without commas, braces or escapes.
    #[test]
    fn another_parser_reads_the_same(
        samples in prop::collection::vec(("[a-z_][a-z0-9_]{0,12}", prop::collection::btree_map("[a-z_][a-z0-9_]{0,6}", "[a-zA-Z0-9/:. -]{1,12}", 1..4), any::<f64>(), 0_i64..4_000_000_000_000), 1..20),
    ) {
        let mut page = String::new();
        for (name, labels, value, at) in &samples {
            let pairs: Vec<_> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
            page += &format!("{name}{{{}}} {value} {at}\n", pairs.join(","));
        }
        let lines = page.lines().map(|line| Ok(line.to_owned()));
        let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
        let (rows, _) = read(&page);
        prop_assert_eq!(scrape.samples.len(), rows.len());
        for (theirs, ours) in scrape.samples.iter().zip(&rows) {
            prop_assert_eq!(&theirs.metric, &ours.0);
            for (name, value) in &ours.1 {
                prop_assert_eq!(theirs.labels.get(name), Some(value.as_str()));
            }
            let prometheus_parse::Value::Untyped(value) = theirs.value else {
                return Err(TestCaseError::fail("not untyped"));
            };
            prop_assert_eq!(value.to_string(), ours.2.clone());
            let at = theirs.timestamp.timestamp_millis().to_string();
            prop_assert_eq!(Some(at), ours.3.clone());
        }
    }
}
