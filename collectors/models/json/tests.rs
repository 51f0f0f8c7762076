//! JSON against another reader of it, and against anything at all.

use proptest::prelude::*;
use serde_json::Value;

use super::items::items;
use super::*;

/// What is read of one object.
fn model(json: &mut Json<'_>) -> Result<Option<Word>, Broken> {
    let mut model = None;
    json.object(|json, key| {
        if key == b"model" {
            model = json.word()?;
        }
        Ok(())
    })?;
    Ok(model)
}

fn models(text: &str) -> Result<(Vec<String>, u64), Broken> {
    let mut found = Vec::new();
    let wrong = items(text.as_bytes(), model, |model| {
        found.push(model.map_or("-".to_owned(), |model| model.to_string()));
    })?;
    Ok((found, wrong))
}

#[test]
fn messages_are_arrays_lines_or_one_object() {
    let read = |text| models(text).map(|(found, wrong)| (found.join(" "), wrong));
    let ok = |found: &str, wrong| Ok((found.to_owned(), wrong));
    assert_eq!(read(r#"[{"model":"a"}, {"model":"b"},{}]"#), ok("a b -", 0));
    assert_eq!(
        read("{\"model\":\"a\"}\n\r\n{\"model\":\"b\"}"),
        ok("a b", 0)
    );
    assert_eq!(
        read("{\n \"x\": [1,\n 2],\n \"model\": \"a\"\n}\n"),
        ok("a", 0)
    );
    assert_eq!(read("\u{feff}{\"model\":\"a\"}"), ok("a", 0));
    assert_eq!(
        read(r#"{"x":{"model":"no"},"y":["model"],"model":"a"}"#),
        ok("a", 0)
    );
    assert_eq!(
        read("{\"model\":\"a\"}{}\n{\"model\":\"b\"}\n{\"model\n"),
        ok("b", 2)
    );
    assert_eq!(read(r#"[7,null,"model"]"#), ok("- - -", 0));
    assert_eq!(read(""), ok("", 0));
    for broken in [
        "[",
        "[{}",
        "[{}] x",
        "[{},]",
        r#"[{"a" 1}]"#,
        r#"[{"a":}]"#,
        "[tru]",
        "[-]x",
        "[1 2]",
    ] {
        assert_eq!(read(broken), Err(Broken::Syntax), "{broken}");
    }
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(models(&deep(128)), Ok((vec!["-".to_owned()], 0)));
    assert_eq!(models(&deep(129)), Err(Broken::Depth));
}

#[test]
fn values_are_what_they_are_asked_as_or_nothing() {
    let json = |text: &'static str| Json::new(text.as_bytes());
    let word = |text| json(text).word().unwrap().map(|word| word.to_string());
    assert_eq!(word(r#""meta\/llama-3\u002e1""#).unwrap(), "meta/llama-3.1");
    assert_eq!(word(r#""two words""#), None);
    assert_eq!(word(r#""a\nb""#), None);
    assert_eq!(word("7"), None);
    assert_eq!(word(r#""\ud83d\ude00""#), None);
    assert_eq!(word(r#""\u0zz0""#), None);
    assert_eq!(json("158").count(), Ok(Some(158)));
    assert_eq!(json("158.0").count(), Ok(Some(158)));
    assert_eq!(json("1.5").count(), Ok(None));
    assert_eq!(json("-1").count(), Ok(None));
    assert_eq!(json("NaN").count(), Ok(None));
    assert_eq!(json(r#""5""#).count(), Ok(None));
    assert_eq!(json(r#""5""#).quoted_number(), Ok(Some(Decimal::whole(5))));
    assert_eq!(json("1e400").number(), Ok(None));
    assert_eq!(
        json("0.051023006439208984")
            .number()
            .unwrap()
            .unwrap()
            .to_milli(),
        Some(51)
    );
    assert_eq!(json("1e999999999999999999999").number(), Ok(None));
    assert_eq!(json("true").truth(), Ok(Some(true)));
    assert_eq!(json("\"true\"").truth(), Ok(None));
    assert_eq!(json("}").truth(), Err(Broken::Syntax));
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        r#"["\\\\\n/a]*"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("(model|[a-c\"\\\\]{0,3})", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_another_reader_takes_is_stepped_over_exactly(value in anything(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        let mut json = Json::new(text.as_bytes());
        prop_assert_eq!(json.skip(), Ok(()));
        prop_assert!(json.is_at_end());
        let named = value.get("model").and_then(Value::as_str);
        let named = named.and_then(|name| Word::new(name.as_bytes()));
        prop_assert_eq!(model(&mut Json::new(text.as_bytes())), Ok(named));
    }

    #[test]
    fn what_is_cut_off_is_broken(value in anything(), at in any::<prop::sample::Index>()) {
        let text = format!("[{value}]");
        let cut = at.index(text.len());
        let mut json = Json::new(text.as_bytes().get(..cut).unwrap());
        prop_assert_eq!(json.skip(), Err(Broken::Syntax));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut count = 0;
        let read = items(&bytes, model, |_| count += 1);
        prop_assert!(read.is_err() || count <= bytes.len());
    }
}
