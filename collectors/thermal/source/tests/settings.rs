//! Tables that are right, and what is said of those that are not.

use super::*;

const SOURCE: &str = "[[source]]\nlocation = 'rack-07'\nequipment_type = 'gpu_cluster'\n\
                      cooling_method = 'liquid'\nheat_utilization = 'none'\n";

fn load(text: &str) -> Result<Config, toml::de::Error> {
    let table: Table<Interval, Spanned<SourceWritten>, PointWritten> = toml::from_str(text)?;
    Config::checked(table).map_err(Wrong::refusal)
}

/// What is said, and the text that it is said of.
fn refused(points: &str) -> (String, String) {
    let text = format!("{SOURCE}{points}");
    let error = load(&text).unwrap_err();
    let span = error.span().unwrap_or_default();
    (error.message().to_owned(), text[span].to_owned())
}

const OUTPUT: &str = "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'kW' }\n";

#[test]
fn a_source_has_its_points_from_any_protocol() {
    let text = format!(
        "interval = '1m'\n[[fake]]\nname = 'meter-7'\n{SOURCE}{OUTPUT}\
         exhaust_temp = {{ fake = {{ device = 'meter-7', say = ['300'], scale = 0.1, unit_of_measure = 'C' }} }}\n\
         [source.heat_captured]\nformula = 'max(a, shared) / 2'\nunit_of_measure = 'kW'\n\
         [source.points.a]\nfake = {{ device = 'meter-7', say = ['5'] }}\n\
         [points.shared]\nfake = {{ say = ['6'] }}\n"
    );
    let config = load(&text).unwrap();
    let names: Vec<&str> = config.points.all.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "shared",
            "rack-07 a",
            "rack-07 thermal_output",
            "rack-07 exhaust_temp",
            "rack-07 heat_captured"
        ]
    );
    assert_eq!(config.interval(), Duration::from_secs(60));
    assert_eq!(config.points.formulas, [4]);
}

#[test]
fn what_is_wrong_is_refused_at_its_place() {
    for (points, message, place) in [
        (
            "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'C' }",
            "C is a temperature, and `thermal_output` is measured in one of: W, kW,",
            "'C'",
        ),
        (
            "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'kw' }",
            "unknown variant `kw`",
            "'kw'",
        ),
        (
            "thermal_output = { fake = { say = ['1'] } }",
            "missing field `unit_of_measure`: say what `thermal_output` counts in",
            "{ fake = { say = ['1'] } }",
        ),
        (
            "thermal_output = { fake = { say = ['1'], unit_of_measure = 'kW' }, unit_of_measure = 'kW' }",
            "`unit_of_measure` is given twice",
            "{ say = ['1'], unit_of_measure = 'kW' }",
        ),
        (
            "thermal_output = { unit_of_measure = 'kW' }",
            "a point comes from one of: bacnet, http, modbus, mqtt, snmp, ",
            "{ unit_of_measure = 'kW' }",
        ),
        (
            "thermal_output = { fake = { say = ['1'] }, formula = '1', unit_of_measure = 'kW' }",
            "names no point",
            "'1'",
        ),
        (
            "thermal_output = { fake = { device = 'x', say = ['1'] }, unit_of_measure = 'kW' }",
            "no device is called \"x\"; there is no [[thermal.fake]] table",
            "{ device = 'x', say = ['1'] }",
        ),
        (
            "thermal_output = { formula = 'a + b', unit_of_measure = 'kW', scale = 0 }",
            "a `scale` of 0",
            "{ formula = 'a + b', unit_of_measure = 'kW', scale = 0 }",
        ),
        (
            "thermal_output = { formula = 'a + b', unit_of_measure = 'kW' }",
            "no point is called `a`; there are: thermal_output",
            "{ formula = 'a + b', unit_of_measure = 'kW' }",
        ),
        (
            "thermal_output = { formula = 'a', unit_of_measure = 'kW' }\n[source.points.a]\nformula = 'thermal_output'",
            "in a circle",
            "",
        ),
        (
            "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'kW', min = 3, max = 2 }",
            "`min` 3 is not below",
            "",
        ),
        (
            "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'kW', max_stp = 3 }",
            "unknown field `max_stp`",
            "max_stp",
        ),
        (
            "",
            "missing field `thermal_output`: say what heat it gives off",
            "",
        ),
        (
            "flow = { fake = { say = ['1'] }, unit_of_measure = 'm3/h' }",
            "missing field `supply`: heat is computed",
            "",
        ),
        (
            "flow = { fake = { say = ['1'] }, unit_of_measure = 'm3/h' }\nsupply = { fake = { say = ['1'] }, unit_of_measure = 'C' }\n\
             return = { fake = { say = ['1'] }, unit_of_measure = 'C' }",
            "missing field `fluid`: what flows",
            "",
        ),
        ("fluid = 'watr'", "unknown variant `watr`", "'watr'"),
        (
            "fluid = { density = 1.03, specific_heat = 3.7 }",
            "in kg/m3",
            "",
        ),
        (
            "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'kW' }\nexemption = { reason = 'summer', from = '2026-09-01', to = '2026-05-01' }",
            "before it begins",
            "'2026-09-01'",
        ),
        (
            "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'kW' }\n[source.points.min]\nfake = { say = ['1'] }",
            "no name for a formula",
            "",
        ),
        (
            "thermal_output = { fake = { say = ['1'] }, unit_of_measure = 'kW' }\n[source.points.thermal_output]\nfake = { say = ['1'] }",
            "two points called `thermal_output`",
            "",
        ),
    ] {
        let (said, of) = refused(points);
        assert!(said.contains(message), "{points}\n{said}");
        assert!(place.is_empty() || of == place, "{points}\n{of}");
    }
}

#[test]
fn names_are_given_once() {
    let twice = format!(
        "{SOURCE}{OUTPUT}{}{OUTPUT}",
        SOURCE.replace("'gpu", "'other_gpu")
    );
    let error = load(&twice).unwrap_err();
    assert_eq!(
        error.message(),
        "there are two thermal sources at \"rack-07\""
    );
    assert_eq!(error.span().map(|span| &twice[span]), Some("'rack-07'"));
    let error = load("[[fake]]\nname = 'm'\n[[fake]]\nname = 'm'\n").unwrap_err();
    assert!(
        error
            .message()
            .contains("two devices called \"m\" in [[thermal.fake]]")
    );
}

#[test]
fn a_source_that_is_off_is_checked_and_not_read() {
    let off = format!("{SOURCE}enabled = false\n");
    assert!(!load(&off).unwrap().enabled());
    let wrong = format!(
        "{SOURCE}enabled = false\nthermal_output = {{ formula = 'a', unit_of_measure = 'kW' }}\n"
    );
    assert!(load(&wrong).is_err());
}
