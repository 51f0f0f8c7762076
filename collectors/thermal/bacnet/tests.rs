//! A link and a session against a device that answers by script, over loopback.
//!
//! The device is written with the encoders of bacnet-rs and the tags of the standard by hand, so that it
//! shares no decoder with what is tested.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bacnet_rs::app::Apdu;
use bacnet_rs::service::{AbortReason, ConfirmedServiceChoice, RejectReason};
use jiff::Timestamp;

use super::device::{Access, Asked, Reader};
use super::link::{AskError, Bbmd, Link, Links, Patience, Place, Registration};
use super::session::{FindError, Session, Target};
use super::wire::{Frame, ObjectId, Peer, Property, Value, hear, unicast};
use crate::thermal::device::{Device, PointError};

const PATIENCE: Patience = Patience {
    timeout: Duration::from_millis(150),
    retries: 2,
};

/// How long a test's device looks for the end.
const LOOK: Duration = Duration::from_millis(20);

/// What a device does with a datagram: what it sends back.
type Script = Box<dyn FnMut(&[u8], SocketAddrV4) -> Vec<Vec<u8>> + Send>;

/// A device on a port of its own; it ends when dropped.
struct Scripted {
    address: SocketAddrV4,
    heard: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    fn start(mut script: Script) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(LOOK)).unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else {
            panic!("not an IPv4 socket")
        };
        let (heard, is_over) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, end) = (Arc::clone(&heard), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut datagram) else {
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                for answer in script(&datagram[..length], from) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Self {
            address,
            heard,
            is_over,
            thread: Some(thread),
        }
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A confirmed request as the device sees it: invoke id, service and content.
fn request(datagram: &[u8]) -> (u8, ConfirmedServiceChoice, Vec<u8>) {
    let from = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    match hear(datagram, from).unwrap().frame {
        Frame::Apdu(Apdu::ConfirmedRequest {
            invoke_id,
            service_choice,
            service_data,
            ..
        }) => (invoke_id, service_choice, service_data),
        other => panic!("{other:?}"),
    }
}

fn to(from: SocketAddrV4, apdu: &Apdu) -> Vec<u8> {
    unicast(&Peer::at(from), false, apdu)
}

fn ack(invoke_id: u8, service_choice: ConfirmedServiceChoice, service_data: Vec<u8>) -> Apdu {
    Apdu::ComplexAck {
        segmented: false,
        more_follows: false,
        invoke_id,
        sequence_number: None,
        proposed_window_size: None,
        service_choice,
        service_data,
    }
}

/// The answer to a question for one property: its own head with a value behind.
fn value_of(question: &[u8], value: &[u8]) -> Vec<u8> {
    [question, &[0x3E], value, &[0x3F]].concat()
}

const REAL_21_5: [u8; 5] = [0x44, 0x41, 0xAC, 0, 0];
const UNSIGNED_480: [u8; 3] = [0x22, 0x01, 0xE0];

fn link() -> Arc<Link> {
    let place = Place {
        interface: Ipv4Addr::LOCALHOST,
        port: 40_000,
        ..Place::default()
    };
    Arc::new(Link::open(place, "", 7).unwrap())
}

fn ai3() -> ObjectId {
    "AI,3".parse().unwrap()
}

fn session(link: &Arc<Link>, device: &Scripted) -> Session {
    let target = Target {
        instance: None,
        peer: Some(Peer::at(device.address)),
    };
    Session::new(Arc::clone(link), target, PATIENCE)
}

/// A device that answers every property alike, with its maximum of bytes where it is asked for that.
fn plain(question: &[u8]) -> Vec<u8> {
    let is_longest = question.ends_with(&[0x19, 62]);
    let value: &[u8] = if is_longest {
        &UNSIGNED_480
    } else {
        &REAL_21_5
    };
    value_of(question, value)
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let mut times = 0;
    let device = Scripted::start(Box::new(move |datagram, from| {
        let (id, service, content) = request(datagram);
        times += 1;
        match times {
            1 => Vec::new(),
            _ => vec![to(from, &ack(id, service, plain(&content)))],
        }
    }));
    let link = link();
    let mut session = session(&link, &device);
    session.find().await.unwrap();
    assert_eq!(session.bound().unwrap().apdu_bytes_max, 480);
    let values = session.one(ai3(), Property::PresentValue, None).await;
    assert_eq!(values.unwrap(), [Value::Real(21.5)]);
    assert_eq!(device.heard(), 3);
}

#[tokio::test]
async fn a_silent_device_is_told_after_its_attempts() {
    let device = Scripted::start(Box::new(|_, _| Vec::new()));
    let link = link();
    let error = session(&link, &device).find().await.unwrap_err();
    let FindError::Ask(error @ AskError::Silent { attempts: 3, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(error.to_string().contains("asked 3 times"), "{error}");
}

#[tokio::test]
async fn garbage_and_answers_to_others_are_passed_over() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (id, service, content) = request(datagram);
        let other = ack(id.wrapping_add(9), service, plain(&content));
        let another = ack(id, ConfirmedServiceChoice::ReadRange, plain(&content));
        let cut = to(from, &ack(id, service, plain(&content)));
        vec![
            vec![0x81],
            vec![0xFF; 1400],
            cut[..cut.len() - 3].to_vec(),
            to(from, &other),
            to(from, &another),
            to(from, &ack(id, service, plain(&content))),
        ]
    }));
    let link = link();
    let mut session = session(&link, &device);
    session.find().await.unwrap();
    let values = session.one(ai3(), Property::PresentValue, None).await;
    assert_eq!(values.unwrap(), [Value::Real(21.5)]);
    assert!(
        link.notes()[0].contains("late answers"),
        "{:?}",
        link.notes()
    );
}

#[tokio::test]
async fn an_answer_of_nine_bytes_to_an_integer_is_refused_and_nothing_else_happens() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (id, service, content) = request(datagram);
        let value = [&[0x25, 9][..], &[1; 9]].concat();
        vec![to(from, &ack(id, service, value_of(&content, &value)))]
    }));
    let link = link();
    let mut session = session(&link, &device);
    session.find().await.unwrap();
    let error = session
        .one(ai3(), Property::PresentValue, None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("length that its type cannot have"),
        "{error}"
    );
}

#[tokio::test]
async fn a_reply_in_segments_is_joined_although_one_is_lost() {
    let mut lost = false;
    let mut whole: HashMap<u8, (ConfirmedServiceChoice, Vec<u8>)> = HashMap::new();
    let device = Scripted::start(Box::new(move |datagram, from| {
        let from_device = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        // What was acknowledged decides what comes next: a window of four.
        let (id, first) = match hear(datagram, from_device).unwrap().frame {
            Frame::Apdu(Apdu::SegmentAck {
                invoke_id,
                sequence_number,
                ..
            }) => (invoke_id, usize::from(sequence_number) + 1),
            _ => {
                let (id, service, content) = request(datagram);
                let objects: Vec<u8> = (0..400u32)
                    .flat_map(|at| {
                        let [a, b, c, d] = at.to_be_bytes();
                        [0xC4, a, b, c, d]
                    })
                    .collect();
                let is_list = content.ends_with(&[0x19, 76]);
                let reply = if is_list {
                    value_of(&content, &objects)
                } else {
                    plain(&content)
                };
                if !is_list {
                    return vec![to(from, &ack(id, service, reply))];
                }
                whole.insert(id, (service, reply));
                (id, 0)
            }
        };
        let Some((service, reply)) = whole.get(&id) else {
            return Vec::new();
        };
        let segments: Vec<&[u8]> = reply.chunks(100).collect();
        let width = if first == 0 { 1 } else { 4 };
        let mut sent = Vec::new();
        for at in first..(first + width).min(segments.len()) {
            if at == 6 && !lost {
                lost = true;
                continue;
            }
            sent.push(to(
                from,
                &Apdu::ComplexAck {
                    segmented: true,
                    more_follows: at + 1 < segments.len(),
                    invoke_id: id,
                    sequence_number: Some(u8::try_from(at).unwrap()),
                    proposed_window_size: Some(4),
                    service_choice: *service,
                    service_data: segments[at].to_vec(),
                },
            ));
        }
        sent
    }));
    let link = link();
    let mut session = session(&link, &device);
    session.find().await.unwrap();
    let objects = session.objects().await.unwrap();
    assert_eq!(objects.len(), 400);
    assert_eq!(objects[399].to_string(), "analog-input,399");
}

#[tokio::test]
async fn a_list_that_cannot_be_sent_at_once_is_read_by_its_elements() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (invoke_id, service, content) = request(datagram);
        let answer = match content.as_slice() {
            [.., 0x19, 76] => Apdu::Abort {
                server: true,
                invoke_id,
                abort_reason: AbortReason::SegmentationNotSupported,
            },
            [.., 0x19, 76, 0x29, 0] => ack(invoke_id, service, value_of(&content, &[0x21, 3])),
            [.., 0x19, 76, 0x29, at] => ack(
                invoke_id,
                service,
                value_of(&content, &[0xC4, 0, 0, 0, *at]),
            ),
            _ => ack(invoke_id, service, plain(&content)),
        };
        vec![to(from, &answer)]
    }));
    let link = link();
    let mut session = session(&link, &device);
    session.find().await.unwrap();
    let objects = session.objects().await.unwrap();
    assert_eq!(objects.len(), 3);
    assert_eq!(objects[2], ai3());
}

#[tokio::test]
async fn a_device_that_knows_no_batches_is_asked_one_by_one_from_then_on() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (invoke_id, service, content) = request(datagram);
        let answer = match service {
            ConfirmedServiceChoice::ReadPropertyMultiple => Apdu::Reject {
                invoke_id,
                reject_reason: RejectReason::UnrecognizedService,
            },
            _ => ack(invoke_id, service, plain(&content)),
        };
        vec![to(from, &answer)]
    }));
    let link = link();
    let mut session = session(&link, &device);
    session.find().await.unwrap();
    let asked = [(ai3(), vec![Property::PresentValue, Property::ObjectName])];
    for expected in [4, 6] {
        let answers = session.read(&asked).await.unwrap();
        assert_eq!(
            answers[&(ai3(), Property::PresentValue)],
            Ok(vec![Value::Real(21.5)])
        );
        assert_eq!(device.heard(), expected);
    }
    assert!(session.is_one_by_one());
}

#[tokio::test]
async fn a_device_that_is_silent_to_batches_is_asked_one_by_one() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (id, service, content) = request(datagram);
        match service {
            ConfirmedServiceChoice::ReadPropertyMultiple => Vec::new(),
            _ => vec![to(from, &ack(id, service, plain(&content)))],
        }
    }));
    let link = link();
    let mut session = session(&link, &device);
    session.find().await.unwrap();
    let asked = [(ai3(), vec![Property::PresentValue])];
    let answers = session.read(&asked).await.unwrap();
    assert_eq!(answers.len(), 1);
    assert!(session.is_one_by_one());
}

#[tokio::test]
async fn another_device_at_the_address_is_not_read() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (invoke_id, service_choice, _) = request(datagram);
        vec![to(
            from,
            &Apdu::Error {
                invoke_id,
                service_choice,
                error_class: 1,
                error_code: 31,
            },
        )]
    }));
    let link = link();
    let target = Target {
        instance: Some(1001),
        peer: Some(Peer::at(device.address)),
    };
    let mut session = Session::new(Arc::clone(&link), target, PATIENCE);
    let error = session.find().await.unwrap_err();
    assert!(error.to_string().contains("is not 1001"), "{error}");
}

#[tokio::test]
async fn a_broadcast_device_registers_us_or_says_why_not() {
    for (code, expected) in [
        (0, Registration::Registered),
        (0x30, Registration::Refused(0x30)),
    ] {
        let bbmd = Scripted::start(Box::new(move |datagram, _| match datagram {
            [0x81, 0x05, 0, 6, 0, 60] => vec![vec![0x81, 0, 0, 6, 0, code]],
            _ => Vec::new(),
        }));
        let place = Place {
            interface: Ipv4Addr::LOCALHOST,
            bbmd: Some(Bbmd {
                address: bbmd.address,
                lifetime_s: 60,
            }),
            ..Place::default()
        };
        let link = Link::open(place, "", 1).unwrap();
        while link.registration() == Some(Registration::Asked) {
            tokio::task::yield_now().await;
        }
        assert_eq!(link.registration(), Some(expected));
        assert!(link.notes().join(" ").contains(&expected.to_string()));
    }
}

/// A reader of one device, as the family opens it.
fn reader(device: &Scripted, asked: Asked, cov_s: Option<u32>) -> Reader {
    let access = Access {
        place: Place {
            interface: Ipv4Addr::LOCALHOST,
            port: 40_000,
            ..Place::default()
        },
        target: Target {
            instance: None,
            peer: Some(Peer::at(device.address)),
        },
        patience: PATIENCE,
        cov_s,
        label: "a device".to_owned(),
    };
    Reader::new(access, vec![asked], Links::default(), PathBuf::new())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_768_564_800 + second).unwrap()
}

#[tokio::test]
async fn a_point_is_read_with_its_unit_and_what_is_missing_is_not_asked_for_again() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (invoke_id, service, content) = request(datagram);
        if content.ends_with(&[0x19, 62]) {
            return vec![to(from, &ack(invoke_id, service, plain(&content)))];
        }
        // An object without Reliability; it is asked for only in the first round.
        let mut answer = vec![0x0C, 0, 0, 0, 3, 0x1E];
        answer.extend([0x29, 85, 0x4E]);
        answer.extend(REAL_21_5);
        answer.extend([0x4F, 0x29, 111, 0x4E, 0x82, 4, 0, 0x4F]);
        if content.windows(2).any(|pair| pair == [0x09, 103]) {
            answer.extend([0x29, 103, 0x5E, 0x91, 2, 0x91, 32, 0x5F]);
        }
        if content.windows(2).any(|pair| pair == [0x09, 117]) {
            answer.extend([0x29, 117, 0x4E, 0x91, 62, 0x4F]);
        }
        answer.push(0x1F);
        let is_long = content.len() > 15;
        let head = if is_long { 0x01 } else { 0x00 };
        assert!(head < 2);
        vec![to(from, &ack(invoke_id, service, answer))]
    }));
    let mut reader = reader(&device, Asked::Object(ai3()), None);
    for round in 0..2 {
        let read = reader.read(at(round * 30)).await.unwrap();
        let observed = read[0].as_ref().unwrap();
        assert_eq!(observed.raw.to_string(), "21.5");
        assert_eq!(observed.unit.unwrap().to_string(), "C");
        assert!(!observed.stands);
    }
    assert_eq!(device.heard(), 3);
}

#[tokio::test]
async fn a_missing_object_costs_its_point_with_a_hint() {
    let device = Scripted::start(Box::new(|datagram, from| {
        let (invoke_id, service, content) = request(datagram);
        let answer = match service {
            ConfirmedServiceChoice::ReadPropertyMultiple => ack(
                invoke_id,
                service,
                vec![
                    0x0C, 0, 0, 0, 3, 0x1E, 0x29, 85, 0x5E, 0x91, 1, 0x91, 31, 0x5F, 0x1F,
                ],
            ),
            _ => ack(invoke_id, service, plain(&content)),
        };
        vec![to(from, &answer)]
    }));
    let mut reader = reader(&device, Asked::Object(ai3()), None);
    let read = reader.read(at(0)).await.unwrap();
    let Err(PointError::Refused(why)) = &read[0] else {
        panic!("{read:?}")
    };
    assert!(
        why.contains("no analog-input,3") && why.contains("probe bacnet"),
        "{why}"
    );
}

#[tokio::test]
async fn a_change_comes_by_itself_and_is_confirmed() {
    let mut change = Vec::new();
    let confirmed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&confirmed);
    let device = Scripted::start(Box::new(move |datagram, from| {
        let here = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        if let Frame::Apdu(Apdu::SimpleAck { invoke_id: 77, .. }) =
            hear(datagram, here).unwrap().frame
        {
            count.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        }
        let (invoke_id, service, content) = request(datagram);
        match service {
            ConfirmedServiceChoice::SubscribeCOV => {
                // The process is ours; the change comes after the answer to the first question.
                change = content[..2 + usize::from(content[0] & 7) - 1].to_vec();
                change.extend([0x1C, 2, 0, 0, 9, 0x2C, 0, 0, 0, 3, 0x39, 60, 0x4E]);
                change.extend([0x09, 85, 0x2E, 0x44, 0x41, 0xB0, 0, 0, 0x2F]);
                change.extend([0x09, 111, 0x2E, 0x82, 4, 0, 0x2F, 0x4F]);
                let agreed = Apdu::SimpleAck {
                    invoke_id,
                    service_choice: service as u8,
                };
                vec![to(from, &agreed)]
            }
            ConfirmedServiceChoice::ReadPropertyMultiple => {
                let mut answer = vec![0x0C, 0, 0, 0, 3, 0x1E, 0x29, 85, 0x4E];
                answer.extend(REAL_21_5);
                answer.extend([0x4F, 0x29, 117, 0x4E, 0x91, 62, 0x4F, 0x1F]);
                let notification = Apdu::ConfirmedRequest {
                    segmented: false,
                    more_follows: false,
                    segmented_response_accepted: false,
                    max_segments: bacnet_rs::app::MaxSegments::Unspecified,
                    max_response_size: bacnet_rs::app::MaxApduSize::Up480,
                    invoke_id: 77,
                    sequence_number: None,
                    proposed_window_size: None,
                    service_choice: ConfirmedServiceChoice::ConfirmedCOVNotification,
                    service_data: change.clone(),
                };
                let answer = ack(invoke_id, service, answer);
                vec![to(from, &notification), to(from, &answer)]
            }
            _ => vec![to(from, &ack(invoke_id, service, plain(&content)))],
        }
    }));
    let mut reader = reader(&device, Asked::Object(ai3()), Some(60));
    let read = reader.read(at(0)).await.unwrap();
    let observed = read[0].as_ref().unwrap();
    assert_eq!(
        (observed.raw.to_string().as_str(), observed.stands),
        ("21.5", false)
    );
    while confirmed.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let asked = device.heard();
    let read = reader.read(at(10)).await.unwrap();
    let observed = read[0].as_ref().unwrap();
    assert_eq!(
        (observed.raw.to_string().as_str(), observed.stands),
        ("22", true)
    );
    assert_eq!(observed.unit.unwrap().to_string(), "C");
    assert_eq!(
        device.heard(),
        asked,
        "nothing is asked while the value stands"
    );
}
