//! Identities that are damaged, lost, mixed up, or of an earlier version.

use std::fs;

use cms_attest::keys::SigningKey;

use super::*;
use crate::seal::tests::key;

const SPRING: Timestamp = Timestamp::constant(1_772_000_000, 0);

fn machine(id: &str) -> Machine {
    Machine {
        machine_id: id.to_owned(),
        product_uuid: None,
    }
}

async fn store(directory: &tempfile::TempDir) -> Store {
    Store::open(directory.path(), &key(1)).await.unwrap()
}

async fn open(store: &Store) -> (Identity, Found) {
    Identity::open(store, &key(1), &machine("m"), SPRING)
        .await
        .unwrap()
}

/// What is done to the file, and its name.
type Damage = (&'static str, fn(&Path));

/// All bytes of all files below a directory.
fn all_bytes(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => bytes.extend(all_bytes(&path)),
            false => bytes.extend(fs::read(&path).unwrap()),
        }
    }
    bytes
}

#[tokio::test]
async fn the_identity_is_made_once_and_then_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let (first, found) = open(&store).await;
    assert_eq!(found, Found::Made);
    let (again, found) = open(&store).await;
    assert_eq!(found, Found::Whole);
    assert_eq!(first.agent_id(), again.agent_id());
    assert_eq!(first.key_id(), again.key_id());
    assert_eq!(first.fingerprint, again.fingerprint);
    let id = fs::read_to_string(directory.path().join("identity/agent-id")).unwrap();
    assert_eq!(id, first.agent_id().to_string());

    let snapshot = Snapshot::open(directory.path(), &key(1)).unwrap();
    let published = published(directory.path(), &snapshot, &key(1)).unwrap();
    assert_eq!(published.request_key.key().key_id(), first.key_id());
    assert_ne!(published.log_key, published.request_key);
}

/// Each state of the file with each state of the copy, and what comes of it.
#[tokio::test]
async fn one_copy_repairs_the_other_and_without_both_a_new_identity_is_made() {
    let damages: [Damage; 5] = [
        ("whole", |_| {}),
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("cut", |path| fs::write(path, "cms-sealed/1 ab").unwrap()),
        ("flipped", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[60] ^= 2;
            fs::write(path, bytes).unwrap();
        }),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (file, damage) in damages {
        for copy in ["whole", "missing", "damaged"] {
            let directory = tempfile::tempdir().unwrap();
            let store = store(&directory).await;
            let (before, _) = open(&store).await;
            let company = "acme-corp".parse().unwrap();
            let moment = Moment {
                now: SPRING,
                boot_id: "b".to_owned(),
                boottime_ms: 1,
                api_key_id: None,
            };
            let origin = store.origin(company, before.agent_id().clone(), moment);
            origin.await.unwrap();
            damage(&directory.path().join("identity/keys"));
            match copy {
                "missing" => store.forget_meta("identity").await,
                "damaged" => {
                    let other = "cms-sealed/1 0000000000000000 AAAA".to_owned();
                    store.set_meta("identity", other).await.unwrap();
                }
                _ => {}
            }
            let (after, found) = open(&store).await;
            let case = format!("file {file}, copy {copy}: {found:?}");
            match (file, copy) {
                ("whole", "whole") => assert_eq!(found, Found::Whole, "{case}"),
                ("whole", _) | (_, "whole") => {
                    assert!(matches!(found, Found::Repaired(_)), "{case}");
                }
                _ => assert!(matches!(found, Found::Lost(_)), "{case}"),
            }
            let is_lost = matches!(found, Found::Lost(_));
            assert_eq!(before.agent_id() != after.agent_id(), is_lost, "{case}");
            assert_eq!(before.key_id() != after.key_id(), is_lost, "{case}");
            let (again, found) = open(&store).await;
            assert_eq!(found, Found::Whole, "{case}");
            assert_eq!(again.key_id(), after.key_id(), "{case}");
            let aside = directory.path().join("quarantine").exists();
            assert_eq!(
                aside,
                file != "whole" && file != "missing" || is_lost && aside,
                "{case}"
            );
        }
    }
}

#[tokio::test]
async fn the_file_of_another_agent_is_set_aside() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, other) = (store(&ours).await, store(&theirs).await);
    let (before, _) = open(&store).await;
    open(&other).await;
    let file = "identity/keys";
    fs::copy(theirs.path().join(file), ours.path().join(file)).unwrap();
    let (after, found) = open(&store).await;
    assert_eq!(before.agent_id(), after.agent_id());
    assert!(matches!(found, Found::Repaired(_)), "{found:?}");
    assert_eq!(open(&store).await.1, Found::Whole);
    assert!(ours.path().join("quarantine").is_dir());
}

#[tokio::test]
async fn a_file_in_the_place_of_the_directory_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let (before, _) = open(&store).await;
    fs::remove_dir_all(directory.path().join("identity")).unwrap();
    fs::write(directory.path().join("identity"), "x").unwrap();
    let (after, found) = open(&store).await;
    assert!(matches!(found, Found::Repaired(_)), "{found:?}");
    assert_eq!(before.key_id(), after.key_id());
}

#[tokio::test]
async fn an_identity_of_an_earlier_version_is_sealed_and_nothing_readable_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let identity = directory.path().join("identity");
    fs::create_dir(&identity).unwrap();
    let seed = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    let agent_id = "0190c9a5-0000-7000-8000-000000000000";
    for (name, text) in [
        ("request.key", seed),
        ("log.key", seed),
        ("agent-id", agent_id),
    ] {
        fs::write(identity.join(name), text).unwrap();
    }
    let is_there = |bytes: &[u8]| bytes.windows(43).any(|part| part == seed.as_bytes());
    assert!(
        is_there(&all_bytes(directory.path())),
        "the test can see it"
    );
    let (after, found) = open(&store).await;
    assert_eq!(found, Found::Whole);
    assert_eq!(after.agent_id().as_str(), agent_id);
    let public = *SigningKey::from_seed(&[1; 32]).unwrap().verifying();
    assert_eq!(after.key_id(), public.key_id());
    let bytes = all_bytes(directory.path());
    assert!(!is_there(&bytes));
    assert!(!bytes.windows(32).any(|part| part == [1; 32]));
    assert!(!identity.join("request.key").exists());
}

#[tokio::test]
async fn what_is_left_of_a_damaged_earlier_identity_is_kept_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let identity = directory.path().join("identity");
    fs::create_dir(&identity).unwrap();
    let seed = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    fs::write(identity.join("request.key"), seed).unwrap();
    let (_, found) = open(&store).await;
    assert!(matches!(found, Found::Lost(_)), "{found:?}");
    let bytes = all_bytes(directory.path());
    assert!(!bytes.windows(43).any(|part| part == seed.as_bytes()));
    let aside = fs::read_dir(directory.path().join("quarantine")).unwrap();
    let aside = aside.last().unwrap().unwrap().path();
    let sealed = fs::read_to_string(aside.join("request.key")).unwrap();
    let opened = key(1).open_text("quarantine", &sealed).unwrap();
    assert_eq!(opened.content.as_slice(), seed.as_bytes());
}

#[tokio::test]
async fn a_new_key_seals_the_identity_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let (before, _) = open(&store).await;
    let both = key(2).after(&key(1));
    let (after, found) = Identity::open(&store, &both, &machine("m"), SPRING)
        .await
        .unwrap();
    assert_eq!((found, after.key_id()), (Found::Whole, before.key_id()));
    let text = fs::read_to_string(directory.path().join("identity/keys")).unwrap();
    assert!(key(1).open_text("identity", &text).is_none());
    assert!(key(2).open_text("identity", &text).is_some());
}

#[test]
fn the_instance_id_does_not_name_the_machine() {
    let company = "acme-corp".parse().unwrap();
    let instance = machine("4c4c4544").instance(&company).unwrap();
    assert_eq!(instance.as_str().len(), "host:".len() + 16);
    assert!(!instance.as_str().contains("4c4c4544"));
    assert_eq!(instance, machine("4c4c4544").instance(&company).unwrap());
}

#[tokio::test]
async fn an_identity_of_another_machine_is_refused_until_a_person_has_said_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let (first, _) = open(&store).await;
    let elsewhere = Identity::open(&store, &key(1), &machine("other"), SPRING).await;
    let Err(IdentityError::OtherMachine { agent_id }) = elsewhere else {
        panic!("{elsewhere:?}")
    };
    assert_eq!(agent_id, *first.agent_id());
    assert_eq!(open(&store).await.1, Found::Whole, "at home all is well");
    let moved = Identity::settle_here(&store, &key(1), &machine("other"), SPRING).await;
    assert_eq!(moved.unwrap(), agent_id);
    let (moved, _) = Identity::open(&store, &key(1), &machine("other"), SPRING)
        .await
        .unwrap();
    assert_eq!(moved.key_id(), first.key_id());
    assert_ne!(moved.fingerprint, first.fingerprint);
    let back = Identity::open(&store, &key(1), &machine("m"), SPRING).await;
    assert!(back.is_err());
}

#[tokio::test]
async fn a_machine_without_a_lasting_name_never_refuses_its_own_agent() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let boot = |number: u32| Machine {
        machine_id: format!("boot:{number}"),
        product_uuid: (number > 1).then(|| number.to_string()),
    };
    let open = async |number| {
        let opened = Identity::open(&store, &key(1), &boot(number), SPRING).await;
        opened.unwrap().0
    };
    let first = open(1).await;
    for number in 2..4 {
        let again = open(number).await;
        assert_eq!(again.key_id(), first.key_id());
        assert_eq!(again.fingerprint, first.fingerprint);
    }
}

#[tokio::test]
async fn the_firmwares_id_counts_where_both_starts_could_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let with = |product: Option<&str>| Machine {
        machine_id: "m".to_owned(),
        product_uuid: product.map(str::to_owned),
    };
    let open = async |product| {
        let machine = with(product);
        let opened = Identity::open(&store, &key(1), &machine, SPRING).await;
        opened.map(|(identity, _)| identity.fingerprint)
    };
    let first = open(None).await.unwrap();
    assert_eq!(open(Some("p")).await.unwrap(), first, "it is learned");
    assert_eq!(open(None).await.unwrap(), first, "as another user");
    assert!(open(Some("q")).await.is_err(), "another board");
}

fn challenge() -> Challenge {
    "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyMDA"
        .parse()
        .unwrap()
}

/// What is kept outlives the process at every step, and the steps may be done again.
#[tokio::test]
async fn a_rotation_goes_on_after_a_start_at_every_step() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let (identity, _) = open(&store).await;
    let old = identity.key_id();
    let later = SPRING + jiff::SignedDuration::from_hours(24);
    assert_eq!(identity.wanted(later), None);

    identity.prepare(&Purpose::ALL, SPRING).await.unwrap();
    let (identity, _) = open(&store).await;
    assert_eq!(identity.wanted(SPRING), Some(Wanted::NewKeys));
    assert_eq!(identity.key_id(), old, "nothing is signed with it yet");
    let waiting = identity.waiting().unwrap();
    identity.prepare(&Purpose::ALL, SPRING).await.unwrap();
    assert_eq!(identity.waiting().unwrap(), waiting, "it is not made twice");
    let asked = (identity.sign_rotation(Wanted::NewKeys, "dash", &challenge(), SPRING)).unwrap();

    identity.asked(SPRING).await.unwrap();
    let (identity, _) = open(&store).await;
    assert!(identity.was_asked());
    let again = (identity.sign_rotation(Wanted::NewKeys, "dash", &challenge(), SPRING)).unwrap();
    assert_eq!((&asked.body, &asked.headers), (&again.body, &again.headers));

    identity.take_up(SPRING, later).await.unwrap();
    let (identity, _) = open(&store).await;
    assert_eq!(identity.key_id(), asked.request_key);
    assert!(!identity.was_asked() && identity.hands_over_the_ledger());
    identity.take_up(SPRING, later).await.unwrap();
    assert_eq!(identity.key_id(), asked.request_key, "it is not done twice");
    let refused = identity.prepare(&[Purpose::Log], SPRING).await;
    assert!(matches!(refused, Err(IdentityError::Rotating)));

    identity.settle(Purpose::Log, SPRING).await.unwrap();
    let (identity, _) = open(&store).await;
    assert!(!identity.hands_over_the_ledger());
    assert_eq!(identity.wanted(SPRING), None);
    assert_eq!(identity.wanted(later), Some(Wanted::End));
    let end = (identity.sign_rotation(Wanted::End, "dash", &challenge(), later)).unwrap();
    assert_eq!(
        (end.request_key, end.log_key),
        (asked.request_key, asked.log_key)
    );
    identity.settle(Purpose::Request, later).await.unwrap();
    let (identity, found) = open(&store).await;
    assert_eq!((found, identity.wanted(later)), (Found::Whole, None));
    assert_eq!(identity.keys().len(), 2);
}

#[tokio::test]
async fn what_is_given_up_was_never_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let (identity, _) = open(&store).await;
    let before = identity.keys();
    identity.prepare(&[Purpose::Request], SPRING).await.unwrap();
    assert_eq!(identity.keys().len(), 3);
    identity.give_up(SPRING).await.unwrap();
    assert_eq!(identity.keys(), before);
    assert_eq!(open(&store).await.0.keys(), before);
}

#[tokio::test]
async fn heads_have_both_signatures_until_the_handover_is_settled() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let (identity, _) = open(&store).await;
    let head = Checkpoint {
        origin: format!("carbonmirror/acme-corp/{}/1", identity.agent_id())
            .parse()
            .unwrap(),
        head: cms_attest::Head::empty(),
    };
    let signatures = |identity: &Identity| {
        let note = identity.sign_head(&head).unwrap();
        note.lines()
            .filter(|line| line.starts_with('\u{2014}'))
            .count()
    };
    assert_eq!(signatures(&identity), 1);
    identity.prepare(&[Purpose::Log], SPRING).await.unwrap();
    let succession = identity.succession().unwrap().unwrap();
    assert_eq!(signatures(&identity), 1);
    identity.take_up(SPRING, SPRING).await.unwrap();
    assert_eq!(signatures(&identity), 2);
    let keys = [*succession.from().key(), *succession.to().key()];
    let opened = Checkpoint::open_any(&identity.sign_head(&head).unwrap(), &keys);
    assert_eq!(opened.unwrap().1, [0, 1]);
    identity.settle(Purpose::Log, SPRING).await.unwrap();
    assert_eq!(signatures(&identity), 1);
}

#[tokio::test]
async fn a_reset_takes_both_copies_and_the_next_start_is_another_agent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let reset = |has_key| crate::store::reset(path, has_key, SPRING);
    let nowhere = crate::store::reset(&path.join("none"), true, SPRING).unwrap();
    assert_eq!(nowhere, crate::store::Reset::Nothing);
    let opened = store(&directory).await;
    let (before, _) = open(&opened).await;
    let moment = Moment {
        now: SPRING,
        boot_id: "b".to_owned(),
        boottime_ms: 1,
        api_key_id: None,
    };
    let company = "acme-corp".parse().unwrap();
    let origin = opened.origin(company, before.agent_id().clone(), moment);
    origin.await.unwrap();
    assert!(reset(true).is_err(), "an agent has it");
    drop((before, opened));
    let again = || async {
        // The store's thread lets the lock go when it ends.
        loop {
            match reset(true) {
                Err(StoreError::InUse { .. }) => tokio::task::yield_now().await,
                done => return done.unwrap(),
            }
        }
    };
    assert_eq!(again().await, crate::store::Reset::TakenOut);
    assert_eq!(again().await, crate::store::Reset::TakenOut);
    assert!(!path.join("identity/keys").exists());
    let opened = store(&directory).await;
    let (after, found) = open(&opened).await;
    assert_eq!(found, Found::Reset);
    let (again, found) = open(&opened).await;
    assert_eq!((found, again.key_id()), (Found::Whole, after.key_id()));
    assert!(!path.join("identity/reset").exists());
}
