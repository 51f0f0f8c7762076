//! Inventories as people and their spreadsheets write them, and what is wrong with others.

use super::*;
use proptest::prelude::*;

const DATE: &str = "# submission_date: 2026-01-01\n";

fn csv(rows: &str) -> Result<Inventory, Wrong> {
    parse(Format::Csv, format!("{DATE}{rows}").as_bytes())
}

fn toml(rows: &str) -> Result<Inventory, Wrong> {
    let text = format!("submission_date = 2026-01-01\n{rows}");
    parse(Format::Toml, text.as_bytes())
}

#[test]
fn lines_are_those_of_an_editor() {
    let wrong = csv("kind,id,name\n\n# a remark\ninstance,i,x\n\n\nbucket,b,y\n").unwrap_err();
    assert_eq!(wrong.line, 8);
    let wrong = csv("# a remark\nkind,id\ninstance,i\n").unwrap_err();
    assert_eq!((wrong.line, wrong.message.contains("\"name\"")), (3, true));
}

#[test]
fn the_same_id_may_name_things_of_two_kinds() {
    let baseline = csv("kind,id,name\ninstance,a,x\nstorage,a,y\n")
        .unwrap()
        .baseline;
    assert_eq!((baseline.instances.len(), baseline.storage.len()), (1, 1));
}

#[test]
fn nothing_documented_is_refused() {
    assert!(csv("kind,id,name\n").unwrap_err().message.contains("empty"));
    assert!(toml("").is_err());
}

#[test]
fn rows_are_bounded_and_ten_thousand_are_few() {
    let rows =
        |count: usize| -> String { (0..count).map(|i| format!("instance,{i},x\n")).collect() };
    let taken = csv(&format!("kind,id,name\n{}", rows(12_345))).unwrap();
    assert_eq!(taken.baseline.instances.len(), 12_345);
    let wrong = csv(&format!("kind,id,name\n{}", rows(ROWS_MAX + 1))).unwrap_err();
    assert!(wrong.message.contains("at most"));
    assert_eq!(wrong.line, count(ROWS_MAX) + 3);
}

#[test]
fn however_a_spreadsheet_writes_it_the_rows_are_the_same() {
    let wanted = csv("kind,id,name\ninstance,i,\"web, main; first\"\n").unwrap();
    for text in [
        "\u{feff}# submission_date: 2026-01-01\r\nkind,id,name\r\ninstance,i,\"web, main; first\"\r\n",
        "# submission_date: 2026-01-01;;\r\nKind;Id;Name\r\ninstance;i;\"web, main; first\"\r\n;;\r\n",
        "\"# submission_date: 2026-01-01\"\nkind\tid\tname\ninstance\ti\tweb, main; first",
        "# submission_date: 2026-01-01\nname,owner,id,kind\n\"web, main; first\",ops, i , instance \n",
    ] {
        assert_eq!(
            parse(Format::Csv, text.as_bytes()).as_ref(),
            Ok(&wanted),
            "{text}"
        );
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_helps() {
    for (rows, line, words) in [
        (
            "kind,id,name\ninstance,i,x\ninstance,i,y\n",
            4,
            "in the inventory already",
        ),
        ("kind,id,id,name\n", 2, "two columns \"id\""),
        ("kind,id,name,evidense\n", 2, "is it \"evidence\"?"),
        (
            "kind,id,name,Decommission date\n",
            2,
            "is it \"decommissioned\"?",
        ),
        ("kind,id,name\ninstance,i,db, main\n", 3, "double quotes"),
        (
            "kind,id,name,decommissioned,evidence\ninstance,i,x,2026-02-01,\n",
            3,
            "name it in evidence",
        ),
        (
            "kind,id,name,decommissioned,evidence\ninstance,i,x,,a.log\n",
            3,
            "there is evidence and no date",
        ),
        (
            "kind,id,name,decommissioned,evidence\ninstance,i,x,01/02/2026,a.log\n",
            3,
            "such as 2026-01-01",
        ),
        (
            "kind,id,name,decommissioned,evidence\ninstance,i,x,2026-02-01,/\n",
            3,
            "names no file",
        ),
        (
            "kind,id,name\ninstance,a\u{1}b,x\n",
            3,
            "control characters",
        ),
    ] {
        let wrong = csv(rows).unwrap_err();
        assert_eq!(wrong.line, line, "{rows}: {}", wrong.message);
        assert!(wrong.message.contains(words), "{rows}: {}", wrong.message);
    }
    for (rows, line, words) in [
        (
            "[[instance]]\nid = \"i\"\nevidence = \"a.log\"\n",
            2,
            "no date",
        ),
        (
            "\n[[instance]]\nid = \"i\"\ndecommissioned = 2026-02-01\n",
            3,
            "name it in evidence",
        ),
        (
            "[[instance]]\nid = \"i\"\ndecommissioned = 2026-02-01T10:00:00Z\nevidence = \"a\"\n",
            2,
            "no",
        ),
        (
            "[[instance]]\nid = \"i\"\ndecomissioned = 2026-02-01\n",
            4,
            "unknown field",
        ),
    ] {
        let wrong = toml(rows).unwrap_err();
        assert_eq!(wrong.line, line, "{rows}: {}", wrong.message);
        assert!(wrong.message.contains(words), "{rows}: {}", wrong.message);
    }
}

#[test]
fn what_is_not_utf_8_is_told_with_its_line() {
    let latin = b"# submission_date: 2026-01-01\nkind,id,name\ninstance,i,M\xfcnchen\n";
    let wrong = parse(Format::Csv, latin).unwrap_err();
    assert_eq!((wrong.line, wrong.message.contains("CSV UTF-8")), (3, true));
    let wide = b"\xff\xfe#\0 \0";
    let wrong = parse(Format::Csv, wide).unwrap_err();
    assert!(wrong.message.contains("UTF-16"), "{}", wrong.message);
}

#[test]
fn a_decommission_is_a_date_and_a_file_in_both_forms() {
    let rows =
        "kind,id,name,decommissioned,evidence\ninstance,a,,,\ninstance,i,x,2026-02-01,logs/i.log\n";
    let from_csv = csv(rows).unwrap();
    let record = &from_csv.records[&(Kind::Instance, 1)];
    assert_eq!(record.date, "2026-02-01".parse().unwrap());
    assert_eq!(record.evidence, Path::new("logs/i.log"));
    let from_toml = toml(
        "[[instance]]\nid = \"a\"\n[[instance]]\nid = \"i\"\nname = \"x\"\ndecommissioned = 2026-02-01\n\
         evidence = \"logs/i.log\"\n",
    );
    assert_eq!(from_toml, Ok(from_csv));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z#,;:\"\n\r =\\[\\]0-9-]{0,200}") {
        csv(&text).ok();
        parse(Format::Toml, text.as_bytes()).ok();
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(Format::Csv, &bytes).ok();
        parse(Format::Toml, &bytes).ok();
    }
}
