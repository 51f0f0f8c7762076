//! The other sources that ask servers, against the same wrong answers: a bucket's listing, a point of a REST server and a
//! management controller.
//!
//! Each names its place and what is wrong, or takes what makes sense and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// What the three say: words of the failure, or of the scan that was taken all the same.
struct Fault {
    name: &'static str,
    address: SocketAddr,
    bucket: &'static str,
    point: &'static str,
    controller: &'static str,
}

const BUCKET: &str = "{ bucket = 'b', access_key_id = { env = 'PATH' }, secret_access_key = { env = 'PATH' }, url = 'http://";

const POINT: &str = "{ interval = '5s', source = [{ location = 'r', equipment_type = 'e', cooling_method = 'c', \
    heat_utilization = 'none', thermal_output = { unit_of_measure = 'kW', http = { device = 'bms', path = '/point', \
    json = '/kw', time = '/at' } } }], http = [{ name = 'bms', within = '6s', url = 'http://";

const CONTROLLER: &str =
    "{ hardware = 'physical', power = { sources = ['redfish'], redfish = { url = 'http://";

/// More than any of them reads of one answer, with what stands in buffers on the way.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A good server of all three, but for one kind of value.
#[derive(Clone, Copy)]
struct Said {
    size: &'static str,
    modified: &'static str,
    kw: &'static str,
    at: &'static str,
    watts: &'static str,
}

const GOOD: Said = Said {
    size: "1000",
    modified: "2026-02-01T00:00:00Z",
    kw: "80",
    at: "2026-03-01T09:59:58Z",
    watts: "470",
};

impl Said {
    fn server(self) -> SocketAddr {
        server(move |request, stream| {
            let path = request.split(' ').nth(1).unwrap();
            drop(stream.write_all(&http(&self.answer(path))));
        })
    }

    fn answer(self, path: &str) -> String {
        let Self {
            size,
            modified,
            kw,
            at,
            watts,
        } = self;
        let link = |name: &str| format!("{{\"@odata.id\":\"/redfish/v1/{name}\"}}");
        let members = |name: &str| format!("{{\"Members\":[{}]}}", link(name));
        match path.trim_end_matches('/') {
            "/point" => format!("{{\"kw\": {kw}, \"at\": \"{at}\"}}"),
            "/redfish/v1" => format!(
                "{{\"Chassis\":{},\"Systems\":{}}}",
                link("Chassis"),
                link("Systems")
            ),
            "/redfish/v1/Systems" => members("Systems/1"),
            "/redfish/v1/Chassis" => members("Chassis/1"),
            "/redfish/v1/Systems/1" => "{\"PowerState\":\"On\"}".to_owned(),
            "/redfish/v1/Chassis/1" => {
                format!("{{\"EnvironmentMetrics\":{}}}", link("Chassis/1/Now"))
            }
            "/redfish/v1/Chassis/1/Now" => format!("{{\"PowerWatts\":{{\"Reading\":{watts}}}}}"),
            _ => format!(
                "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents>\
                 <Key>k</Key><LastModified>{modified}</LastModified><Size>{size}</Size></Contents></ListBucketResult>"
            ),
        }
    }
}

fn faults() -> Vec<Fault> {
    let status = |head: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}");
        saying(format!("{head}\r\n\r\n{body}").into_bytes())
    };
    let reset = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
        address
    };
    let elsewhere = "302 Found\r\nlocation: https://login.example/";
    vec![
        Fault {
            name: "wrong credentials",
            address: status("401 Unauthorized", ""),
            bucket: "denied",
            point: "check bearer_token",
            controller: "check user and password",
        },
        Fault {
            name: "half a page",
            address: saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"kw\": 8".to_vec()),
            bucket: "ends before its end",
            point: "ends before its end",
            controller: "ends before its end",
        },
        Fault {
            name: "a page for people",
            address: saying(http("<html><body>Please sign in</body></html>")),
            bucket: "is the address that of the object store",
            point: "a web page, not JSON",
            controller: "check that a Redfish service answers",
        },
        Fault {
            name: "a reset",
            address: reset,
            bucket: "unreachable",
            point: "cannot reach",
            controller: "cannot reach",
        },
        Fault {
            name: "nothing",
            address: saying(http("")),
            bucket: "it ends before its end",
            point: "no JSON: EOF",
            controller: "EOF",
        },
        Fault {
            name: "a redirect to a login",
            address: status(elsewhere, ""),
            bucket: "https://login.example/",
            point: "https://login.example/",
            controller: "https://login.example/",
        },
        Fault {
            name: "a server that is overloaded",
            address: status("503 Service Unavailable", "busy"),
            bucket: "unreachable",
            point: "busy",
            controller: "HTTP 503",
        },
        Fault {
            name: "no numbers",
            address: Said {
                size: "NaN",
                kw: "NaN",
                watts: "NaN",
                ..GOOD
            }
            .server(),
            bucket: "malformed",
            point: "no JSON",
            controller: "no Redfish resource",
        },
        Fault {
            name: "negative numbers",
            address: Said {
                size: "-5",
                kw: "-5",
                watts: "-5",
                ..GOOD
            }
            .server(),
            bucket: "malformed",
            point: "is negative",
            controller: "is negative",
        },
        Fault {
            name: "a clock in the future",
            address: Said {
                modified: "2100-01-01T00:00:00Z",
                at: "2100-01-01T00:00:00Z",
                watts: "0",
                ..GOOD
            }
            .server(),
            bucket: "taken: 1 active, 0 dark",
            point: "in the future: check its clock",
            controller: "is 0 W, which a running machine never draws",
        },
    ]
}

/// Opens a source of this kind.
fn opened(
    id: &str,
    table: &str,
    address: SocketAddr,
    end: &str,
) -> Box<dyn cms_collectors::Collector> {
    let registration = ALL.iter().find(|one| one.id == id).unwrap();
    let table = format!("{table}{address}'{end}");
    let value = toml::de::ValueDeserializer::parse(&table).unwrap();
    let settings = (registration.parse)(value).unwrap_or_else(|error| panic!("{table}: {error}"));
    let web: Arc<dyn Web> = Arc::new(Outbound);
    let id = "host:0000000000000000".parse().unwrap();
    let host = Host::local(id, "here".to_owned(), web);
    settings.open(&host).unwrap()
}

/// Ticks a source until it says something: its error with the class, or what it took.
async fn said(mut source: Box<dyn cms_collectors::Collector>) -> String {
    let now: Timestamp = NOW.parse().unwrap();
    for second in 0.. {
        let mut out = Readings::default();
        let at = now + jiff::SignedDuration::from_secs(second);
        if let Err(error) = source.collect(at, &mut out).await {
            return format!("{}: {}", error.class(), chained(&error));
        }
        let sample = out.stamp("s", now, "b");
        if let Some(Snapshot::Storage(scan)) = sample.snapshots.first() {
            let (active, dark) = (scan.active.objects, scan.dark.objects);
            return format!("taken: {active} active, {dark} dark");
        }
        if second > 0 && !source.is_waiting() && source.progress().is_none() {
            return source.details().join("; ");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    unreachable!("a source says something at last")
}

async fn judged(fault: &Fault) -> String {
    let (bucket, point, controller) = tokio::join!(
        said(opened("storage/s3", BUCKET, fault.address, " }")),
        said(opened("thermal/source", POINT, fault.address, " }] }")),
        said(opened("compute/host", CONTROLLER, fault.address, " } } }")),
    );
    let rows = [
        ("bucket", fault.bucket, bucket),
        ("point", fault.point, point),
        ("controller", fault.controller, controller),
    ];
    let wrong = rows.into_iter().filter(|(_, words, got)| {
        // A point and a rung have names of their own; `status` has the address beside the point.
        let places = [
            "taken",
            "127.0.0.1",
            "r thermal_output: ",
            "power redfish: not used: ",
        ];
        !(got.contains(words) && places.iter().any(|place| got.contains(place)))
    });
    wrong
        .map(|(source, words, got)| {
            format!("{source}, {}: wanted {words:?}, got {got:?}\n", fault.name)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_tell_clearly_what_is_wrong_and_take_nothing_of_it() {
    let mut wrong = String::new();
    for fault in faults() {
        wrong += &judged(&fault).await;
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_cut_off() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let endless = server(move |_, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
        while stream.write_all(&[b' '; 65_536]).is_ok() {
            counted.fetch_add(65_536, Ordering::Relaxed);
        }
    });
    for (id, table, end, words) in [
        ("storage/s3", BUCKET, " }", "longer than 8388608 bytes"),
        ("thermal/source", POINT, " }] }", "127.0.0.1"),
        (
            "compute/host",
            CONTROLLER,
            " } } }",
            "longer than 1048576 bytes",
        ),
    ] {
        let told = said(opened(id, table, endless, end)).await;
        assert!(told.contains(words), "{id}: {told}");
    }
    assert!(sent.load(Ordering::Relaxed) < BYTES_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_drip_ends_at_its_time() {
    let drip = server(|_, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"));
        drop(stream.read(&mut [0; 1]));
    });
    // The listing of a bucket is given a minute, which is too long to wait for here.
    let (point, controller) = tokio::join!(
        said(opened("thermal/source", POINT, drip, " }] }")),
        said(opened("compute/host", CONTROLLER, drip, " } } }")),
    );
    assert!(point.contains("did not answer within 6s"), "{point}");
    assert!(
        controller.contains("did not answer within 8s"),
        "{controller}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn good_answers_are_taken() {
    let address = GOOD.server();
    let bucket = said(opened("storage/s3", BUCKET, address, " }")).await;
    assert_eq!(bucket, "taken: 1 active, 0 dark");
    let point = said(opened("thermal/source", POINT, address, " }] }")).await;
    assert!(point.contains("80 kW"), "{point}");
    let controller = said(opened("compute/host", CONTROLLER, address, " } } }")).await;
    assert!(
        controller.contains("power redfish: 470.0 W, in use"),
        "{controller}"
    );
}
