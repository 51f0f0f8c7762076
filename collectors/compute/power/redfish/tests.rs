//! Controllers as they are met: each gives one power with its way, or one reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::web::{Answer, Dial, Offline, OnPiece, Request, SecretPlace, Server, Site, Stream, Web};
use cms_spec::provenance::Confidence;
use zeroize::Zeroizing;

/// A controller made of its resources.
#[derive(Debug, Default)]
struct Tree {
    resources: BTreeMap<&'static str, (u16, String)>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Server for Tree {
    async fn ask(
        &self,
        request: &Request<'_>,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Answer, CollectError> {
        assert!(request.body.is_none(), "nothing is changed on a controller");
        self.asked.lock().unwrap().push(request.path.to_owned());
        let missing = (404, String::new());
        let (status, body) = self.resources.get(request.path).unwrap_or(&missing);
        let mut answer = Answer {
            status: *status,
            ..Answer::default()
        };
        if answer.is_good() {
            on_piece(body.as_bytes())?;
        } else {
            answer.refusal = body.clone().into_bytes();
        }
        Ok(answer)
    }
}

/// Every server is this one.
#[derive(Debug)]
struct Net(Arc<Tree>);

#[async_trait]
impl Web for Net {
    fn open(&self, _: &Site) -> Result<Arc<dyn Server>, CollectError> {
        Ok(Arc::<Tree>::clone(&self.0))
    }

    async fn dial(&self, to: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        Offline.dial(to).await
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        Offline.secret(place)
    }
}

const SYSTEM: &str = "/redfish/v1/Systems/437XR1138R2";
const CHASSIS: &str = "/redfish/v1/Chassis/1U";
const ENVIRONMENT: &str = "/redfish/v1/Chassis/1U/EnvironmentMetrics";
const SENSOR: &str = "/redfish/v1/Chassis/1U/Sensors/TotalPower";
const SUBSYSTEM: &str = "/redfish/v1/Chassis/1U/PowerSubsystem";
const SUPPLIES: &str = "/redfish/v1/Chassis/1U/PowerSubsystem/PowerSupplies";
const BAY_1: &str = "/redfish/v1/Chassis/1U/PowerSubsystem/PowerSupplies/Bay1";
const BAY_2: &str = "/redfish/v1/Chassis/1U/PowerSubsystem/PowerSupplies/Bay2";
const METRICS_1: &str = "/redfish/v1/Chassis/1U/PowerSubsystem/PowerSupplies/Bay1/Metrics";
const METRICS_2: &str = "/redfish/v1/Chassis/1U/PowerSubsystem/PowerSupplies/Bay2/Metrics";
const POWER: &str = "/redfish/v1/Chassis/1U/Power";

fn link(path: &str) -> Value {
    json!({"@odata.id": path})
}

fn links(paths: &[&str]) -> Value {
    paths.iter().map(|path| link(path)).collect()
}

/// A server with every way to its power.
fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.set(
        "/redfish/v1/",
        &json!({"RedfishVersion": "1.17.0", "Chassis": link("/redfish/v1/Chassis"), "Systems": link("/redfish/v1/Systems")}),
    );
    tree.set("/redfish/v1/Systems", &json!({"Members": links(&[SYSTEM])}));
    tree.set(
        "/redfish/v1/Chassis",
        &json!({"Members": links(&["/redfish/v1/Chassis/Drawer", CHASSIS])}),
    );
    tree.set(
        SYSTEM,
        &json!({"PowerState": "On", "Status": {"State": "Enabled"}, "Links": {"Chassis": links(&[CHASSIS])}}),
    );
    tree.set(
        CHASSIS,
        &json!({
            "Links": {"ComputerSystems": links(&[SYSTEM])}, "EnvironmentMetrics": link(ENVIRONMENT),
            "PowerSubsystem": link(SUBSYSTEM), "Power": link(POWER)
        }),
    );
    tree.set(
        ENVIRONMENT,
        &json!({
            "PowerWatts": {"Reading": 472.5, "DataSourceUri": SENSOR},
            "EnergykWh": {"Reading": 1234.567, "SensorResetTime": "2026-01-01T00:00:00Z"}
        }),
    );
    tree.set(
        SENSOR,
        &json!({"Reading": 472.5, "ReadingTime": "2026-01-05T10:00:28Z", "Status": {"State": "Enabled"}}),
    );
    tree.set(SUBSYSTEM, &json!({"PowerSupplies": link(SUPPLIES)}));
    tree.set(SUPPLIES, &json!({"Members": links(&[BAY_1, BAY_2])}));
    for (bay, metrics, watts) in [(BAY_1, METRICS_1, 236.0), (BAY_2, METRICS_2, 237.25)] {
        tree.set(
            bay,
            &json!({"Status": {"State": "Enabled"}, "Metrics": link(metrics)}),
        );
        tree.set(
            metrics,
            &json!({"InputPowerWatts": {"Reading": watts}, "OutputPowerWatts": {"Reading": 200}}),
        );
    }
    tree.set(
        POWER,
        &json!({
            "PowerControl": [{
                "PowerConsumedWatts": 470, "PowerMetrics": {"IntervalInMin": 1, "AverageConsumedWatts": 468}
            }],
            "PowerSupplies": [{"PowerInputWatts": 900}]
        }),
    );
    tree
}

impl Tree {
    fn set(&mut self, path: &'static str, body: &Value) {
        self.resources.insert(path, (200, body.to_string()));
    }

    fn answers(&mut self, path: &'static str, status: u16, body: &str) {
        self.resources.insert(path, (status, body.to_owned()));
    }

    /// Changes a property, by its pointer.
    fn with(mut self, path: &'static str, at: &str, value: Value) -> Self {
        let mut body: Value = serde_json::from_str(&self.resources[path].1).unwrap();
        *body.pointer_mut(at).unwrap() = value;
        self.set(path, &body);
        self
    }

    fn without(mut self, path: &'static str) -> Self {
        self.resources.remove(path);
        self
    }
}

fn redfish(tree: Tree) -> (Redfish, Arc<Tree>) {
    let tree = Arc::new(tree);
    let site = Site::plain("https://bmc.example".parse().unwrap());
    let redfish = Redfish {
        controller: Controller::new(Arc::new(Net(Arc::clone(&tree))), site),
        wanted: Wanted::default(),
        identity: Identity::default(),
        place: None,
        seen: Seen::default(),
        refused: 0,
    };
    (redfish, tree)
}

async fn measured(tree: Tree) -> Result<Measured, String> {
    redfish(tree)
        .0
        .poll()
        .await
        .map_err(|error| error.to_string())
}

/// Watts and the way to them.
async fn power(tree: Tree) -> (u64, String) {
    let measured = measured(tree).await.unwrap();
    (measured.power.unwrap().0, measured.origin.method)
}

async fn reason(tree: Tree) -> String {
    measured(tree).await.unwrap_err()
}

#[tokio::test]
async fn the_environment_comes_first_with_its_counter_and_time() {
    let measured = measured(tree()).await.unwrap();
    assert_eq!(measured.power.unwrap().0, 472_500);
    assert_eq!(
        measured.origin.source,
        "redfish/Chassis/1U/EnvironmentMetrics"
    );
    assert_eq!(measured.origin.method, "redfish-env/1 chassis");
    assert_eq!(measured.origin.confidence, Confidence::B);
    assert_eq!(
        measured.source_time.unwrap().to_string(),
        "2026-01-05T10:00:28Z"
    );
    let counter = measured.counter.unwrap();
    assert_eq!(counter.total.0, 4_444_441_200_000_000);
    assert_eq!(counter.step.0, 3_600_000_000);
}

#[tokio::test]
async fn a_sensor_of_the_input_with_an_accuracy_is_trusted_most() {
    let sensor = json!({
        "PhysicalSubContext": "Input", "Accuracy": 1.5, "Implementation": "Synthesized",
        "Status": {"State": "Enabled"}
    });
    let mut tree = tree();
    tree.set(SENSOR, &sensor);
    let origin = measured(tree).await.unwrap().origin;
    assert_eq!(origin.method, "redfish-env/1 psu_ac");
    assert_eq!(origin.confidence, Confidence::A);
    let note = origin.note.unwrap();
    assert!(
        note.contains("1.50 %") && note.contains("computes"),
        "{note}"
    );
}

#[tokio::test]
async fn a_counter_that_was_reset_is_left_out_once() {
    let (mut before, _) = redfish(tree());
    assert!(before.poll().await.unwrap().counter.is_some());
    let reset = tree()
        .with(ENVIRONMENT, "/EnergykWh/Reading", json!(2000))
        .with(
            ENVIRONMENT,
            "/EnergykWh/SensorResetTime",
            json!("2026-01-05T10:00:00Z"),
        );
    let (mut after, _) = redfish(reset);
    after.seen = before.seen.clone();
    assert_eq!(after.poll().await.unwrap().counter, None);
    let counter = after.poll().await.unwrap().counter.unwrap();
    // 2000 has no digit after its point, but the counter has shown three of them.
    assert_eq!(counter.step.0, 3_600_000_000);
}

#[tokio::test]
async fn without_an_environment_the_inputs_are_summed() {
    for tree in [
        tree().without(ENVIRONMENT),
        tree().with(ENVIRONMENT, "/PowerWatts", Value::Null),
        tree().with(ENVIRONMENT, "/PowerWatts/Reading", Value::Null),
        tree().with(ENVIRONMENT, "/PowerWatts/Reading", json!(0)),
        tree().with(SENSOR, "/Status/State", json!("Disabled")),
        tree().with(CHASSIS, "/EnvironmentMetrics", Value::Null),
    ] {
        assert_eq!(
            power(tree).await,
            (473_250, "redfish-psu/1 psu_ac".to_owned())
        );
    }
}

#[tokio::test]
async fn supplies_are_summed_whole_or_not_at_all() {
    let without_environment = || tree().without(ENVIRONMENT).without(POWER);
    let absent = without_environment().with(BAY_2, "/Status/State", json!("Absent"));
    assert_eq!(power(absent).await.0, 236_000);
    let idle = without_environment().with(BAY_2, "/Status/State", json!("UnavailableOffline"));
    let idle = measured(idle).await.unwrap();
    assert_eq!(idle.power.unwrap().0, 236_000);
    let note = idle.origin.note.unwrap();
    assert!(
        note.contains("1 enabled power supply; 1 more present"),
        "{note}"
    );
    for half in [
        without_environment().without(METRICS_2),
        without_environment().with(METRICS_2, "/InputPowerWatts/Reading", Value::Null),
        without_environment().with(METRICS_2, "/InputPowerWatts/Reading", json!(0)),
        without_environment().with(METRICS_2, "/InputPowerWatts", Value::Null),
        without_environment().with(BAY_2, "/Metrics", Value::Null),
    ] {
        let reason = reason(half).await;
        assert!(
            reason.contains("power supply Bay2 is enabled, but"),
            "{reason}"
        );
        assert!(reason.contains("half of a sum is none"), "{reason}");
    }
    let none = without_environment()
        .with(BAY_1, "/Status/State", json!("Absent"))
        .with(BAY_2, "/Status/State", json!("Disabled"));
    assert!(reason(none).await.contains("none of its 2 power supplies"));
}

#[tokio::test]
async fn the_old_power_is_the_last_way() {
    let old = || tree().without(ENVIRONMENT).without(SUBSYSTEM);
    assert_eq!(
        power(old()).await,
        (470_000, "redfish-power/1 chassis".to_owned())
    );
    let consumed = "/PowerControl/0/PowerConsumedWatts";
    let mean = old().with(POWER, consumed, Value::Null);
    let mean_of_a_minute = "redfish-power/1 mean of 1 min chassis".to_owned();
    assert_eq!(power(mean).await, (468_000, mean_of_a_minute));
    let long = old().with(POWER, consumed, Value::Null).with(
        POWER,
        "/PowerControl/0/PowerMetrics/IntervalInMin",
        json!(60),
    );
    assert!(reason(long).await.contains("PowerConsumedWatts is null"));
    let mut part = old();
    part.set(
        POWER,
        &json!({"PowerControl": [{"PowerConsumedWatts": 90, "PhysicalContext": "CPU"}]}),
    );
    assert!(reason(part).await.contains("power of its CPU"));
    let mut single = old();
    single.set(
        POWER,
        &json!({"PowerSupplies": [{"PowerInputWatts": 900, "PowerOutputWatts": 300}]}),
    );
    assert!(
        reason(single)
            .await
            .contains("there is no PowerControl/0/PowerConsumedWatts")
    );
    let absent =
        json!({"PowerControl": [{"PowerConsumedWatts": 90, "Status": {"State": "Absent"}}]});
    let mut off = old();
    off.set(POWER, &absent);
    assert!(reason(off).await.contains("PowerControl/0 is Absent"));
}

#[tokio::test]
async fn every_way_says_why_it_is_none() {
    let reason = reason(
        tree()
            .with(ENVIRONMENT, "/PowerWatts/Reading", Value::Null)
            .with(METRICS_1, "/InputPowerWatts/Reading", Value::Null)
            .without(POWER),
    )
    .await;
    assert!(!reason.contains("bmc.example"), "{reason}");
    for words in [
        "EnvironmentMetrics: PowerWatts/Reading is null",
        "PowerSubsystem: power supply Bay1",
        "Power: /redfish/v1/Chassis/1U/Power is not there",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
}

#[tokio::test]
async fn a_machine_that_is_not_on_has_no_power() {
    for (tree, words) in [
        (
            tree().with(SYSTEM, "/PowerState", json!("Off")),
            "437XR1138R2 is Off",
        ),
        (
            tree().with(SYSTEM, "/PowerState", json!("PoweringOn")),
            "is PoweringOn",
        ),
        (
            tree().with(SYSTEM, "/PowerState", Value::Null),
            "does not say with PowerState",
        ),
        (
            tree().with(SYSTEM, "/Status/State", json!("StandbyOffline")),
            "is StandbyOffline",
        ),
    ] {
        let reason = reason(tree).await;
        assert!(reason.contains(words), "{reason}");
    }
    // Where there is no system, its chassis says it.
    let mut chassis_only = tree();
    chassis_only.set("/redfish/v1/Systems", &json!({"Members": []}));
    chassis_only.set(
        "/redfish/v1/Chassis",
        &json!({"Members": links(&[CHASSIS])}),
    );
    chassis_only.set(
        CHASSIS,
        &json!({"PowerState": "On", "EnvironmentMetrics": link(ENVIRONMENT)}),
    );
    assert_eq!(power(chassis_only).await.0, 472_500);
}

#[tokio::test]
async fn which_chassis_is_the_linked_one_or_the_configured_one() {
    let drives = "/redfish/v1/Chassis/Drawer";
    let mut two = tree().with(SYSTEM, "/Links/Chassis", links(&[drives, CHASSIS]));
    two.set(drives, &json!({"Drives": []}));
    assert_eq!(power(two).await.0, 472_500);
    let mut both = tree().with(SYSTEM, "/Links/Chassis", links(&[drives, CHASSIS]));
    both.set(drives, &json!({"Power": link(POWER)}));
    let (mut asked, _) = redfish(both);
    let reason = asked.poll().await.unwrap_err().to_string();
    assert!(
        reason.contains("set `chassis` to one of 1U, Drawer"),
        "{reason}"
    );
    asked.wanted.chassis = Some("1U".to_owned());
    assert_eq!(asked.poll().await.unwrap().power.unwrap().0, 472_500);
    asked.place = None;
    asked.wanted.chassis = Some("2".to_owned());
    let reason = asked.poll().await.unwrap_err().to_string();
    assert!(
        reason.contains("no chassis \"2\": there is Drawer, 1U"),
        "{reason}"
    );
}

#[tokio::test]
async fn several_systems_behind_one_controller() {
    const OTHER: &str = "/redfish/v1/Systems/Node2";
    let two = || {
        let mut tree = tree();
        tree.set(
            "/redfish/v1/Systems",
            &json!({"Members": links(&[OTHER, SYSTEM])}),
        );
        tree
    };
    let (mut asked, _) = redfish(two());
    let reason = asked.poll().await.unwrap_err().to_string();
    assert!(
        reason.contains("set `system` to one of Node2, 437XR1138R2"),
        "{reason}"
    );
    asked.wanted.system = Some("437XR1138R2".to_owned());
    assert!(asked.poll().await.is_ok());
    // The chassis that is configured says which system is in it.
    let (mut asked, _) = redfish(two());
    asked.wanted.chassis = Some("1U".to_owned());
    assert!(asked.poll().await.is_ok());
    let shared = two().with(CHASSIS, "/Links/ComputerSystems", links(&[OTHER, SYSTEM]));
    let (mut asked, _) = redfish(shared);
    asked.wanted.system = Some("437XR1138R2".to_owned());
    let reason = asked.poll().await.unwrap_err().to_string();
    assert!(reason.contains("holds 2 systems"), "{reason}");
}

#[tokio::test]
async fn bad_answers_are_told_and_the_next_way_is_taken() {
    let mut html = tree();
    html.answers(ENVIRONMENT, 200, "<html><body>Please log in</body></html>");
    let mut half = tree();
    half.answers(ENVIRONMENT, 200, "{\"PowerWatts\": {\"Read");
    let mut broken = tree();
    broken.answers(ENVIRONMENT, 500, "internal");
    let mut forbidden = tree();
    forbidden.answers(ENVIRONMENT, 403, "");
    for tree in [html, half, broken, forbidden] {
        assert_eq!(power(tree).await.0, 473_250);
    }
    for (status, body, words) in [
        (
            200,
            "<html>Please log in</html>",
            "it begins with \"<html>Please",
        ),
        (200, "{\"name\": \"printer\"}", "it names no Chassis"),
        (500, "internal", "is not answered (HTTP 500: internal)"),
        (301, "", "redirects to another place"),
        (404, "", "/redfish/v1/ is not there"),
    ] {
        let mut tree = tree();
        tree.answers("/redfish/v1/", status, body);
        let reason = reason(tree).await;
        assert!(reason.contains(words), "{reason}");
    }
}

#[tokio::test]
async fn a_refused_login_is_told_and_repeated_rarely() {
    let mut refusing = tree();
    refusing.answers(SYSTEM, 401, "bad login");
    let (mut asked, tree) = redfish(refusing);
    assert_eq!(asked.pause(), Duration::ZERO);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let error = asked.poll().await.unwrap_err();
        assert_eq!(error.class(), "denied");
        assert!(
            error.to_string().contains("check user and password"),
            "{error}"
        );
        pauses.push(asked.pause().as_secs() / 60);
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 240, 240]);
    // After a refusal nothing else is asked.
    let asked = tree.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|path| *path == SYSTEM).count(), 7);
    assert_eq!(asked.last().unwrap(), SYSTEM);
}

#[tokio::test]
async fn more_than_the_supplies_can_give_is_refused_way_by_way() {
    const CONTROL: &str = "/PowerControl/0";
    let rated = |watts: Value| {
        let mut tree = tree();
        tree.set(
            SUBSYSTEM,
            &json!({"PowerSupplies": link(SUPPLIES), "CapacityWatts": watts}),
        );
        tree
    };
    // 130 % of 364 W are 473.2 W: between what the environment and the supplies say.
    assert_eq!(power(rated(json!(364))).await.0, 472_500);
    let one_way = rated(json!(364)).with(ENVIRONMENT, "/PowerWatts/Reading", json!(473.3));
    let reason_of_one = reason(one_way.without(POWER)).await;
    for words in [
        "EnvironmentMetrics: it says 473.3 W, more than 130 % of CapacityWatts = 364",
        "PowerSubsystem: it says 473.2 W, more than 130 % of CapacityWatts = 364",
    ] {
        assert!(reason_of_one.contains(words), "{reason_of_one}");
    }
    let watts_for_milliwatts =
        rated(json!(800)).with(ENVIRONMENT, "/PowerWatts/Reading", json!(47_250));
    assert_eq!(
        power(watts_for_milliwatts).await,
        (473_250, "redfish-psu/1 psu_ac".to_owned())
    );
    // Some write nothing, or 0, or more than a machine has.
    for nothing in [
        Value::Null,
        json!(0),
        json!(-1),
        json!(1_000_000),
        json!("many"),
    ] {
        assert_eq!(power(rated(nothing)).await.0, 472_500);
    }
    // Two supplies of 30 kW feed it: 472.5 W are less than 2 % of them, and are right.
    assert_eq!(power(rated(json!(60_000))).await.0, 472_500);
    // The old resource says it for those that have no subsystem.
    let control = json!({"PowerConsumedWatts": 470, "PowerCapacityWatts": 300});
    let old = tree().without(SUBSYSTEM).with(POWER, CONTROL, control);
    let reason = reason(old).await;
    assert!(
        reason.contains("Power: it says 470.0 W, more than 130 % of PowerCapacityWatts = 300"),
        "{reason}"
    );
}

#[tokio::test]
async fn the_place_is_found_once_and_again_after_a_failure() {
    let (mut asked, tree) = redfish(tree());
    asked.poll().await.unwrap();
    let first = tree.asked.lock().unwrap().drain(..).count();
    asked.poll().await.unwrap();
    let then: Vec<String> = tree.asked.lock().unwrap().drain(..).collect();
    assert_eq!(first, 9);
    assert_eq!(then, [SYSTEM, ENVIRONMENT, SENSOR]);
}
