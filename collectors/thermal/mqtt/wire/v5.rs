//! MQTT 5.

use std::sync::Arc;

use async_trait::async_trait;
use rumqttc_v5::mqttbytes::{Error as MqttError, QoS};
use rumqttc_v5::{
    AsyncClient, BrokerSessionResumePolicy, ConnectReturnCode, ConnectionError, Event, EventLoop,
    Incoming, IncomingPacketSizeLimit, MqttOptions, SessionMode, StateError, SubscribeFilter,
    SubscribeReasonCode,
};

use super::{
    Ended, Entry, Filter, Heard, MESSAGE_BYTES_MAX, REQUESTS_MAX, SESSION_KEPT, Web, Wire, dialled,
    lost, refused, topic_of,
};

pub(super) struct Connection {
    client: AsyncClient,
    events: EventLoop,
}

pub(super) fn connect(entry: &Entry, web: &Arc<dyn Web>) -> Connection {
    let mut options = MqttOptions::new(
        entry.client_id.as_str(),
        (entry.to.host.as_str(), entry.to.port),
    );
    let seconds = u16::try_from(entry.keep_alive.as_secs()).unwrap_or(u16::MAX);
    options.set_keep_alive(seconds);
    options.set_session_mode(if entry.is_persistent {
        SessionMode::Persistent
    } else {
        SessionMode::Clean
    });
    // We acknowledge what we have taken and keep nothing in flight, so a session that only the broker
    // remembers is whole.
    options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
    if entry.is_persistent {
        options.set_session_expiry_interval(u32::try_from(SESSION_KEPT.as_secs()).ok());
    }
    options.set_max_packet_size(Some(MESSAGE_BYTES_MAX));
    options.set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MESSAGE_BYTES_MAX));
    if let Some((user, password)) = &entry.login {
        options.set_credentials(user.clone(), password.as_bytes().to_vec());
    }
    let (to, web) = (entry.to.clone(), Arc::clone(web));
    options.set_socket_connector(move |_, _| dialled(to.clone(), Arc::clone(&web)));
    let (client, events) = AsyncClient::builder(options).capacity(REQUESTS_MAX).build();
    Connection { client, events }
}

#[async_trait]
impl Wire for Connection {
    async fn next(&mut self) -> Result<Heard, Ended> {
        match self.events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(answer))) => Ok(Heard::Welcome {
                is_kept: answer.session_present,
            }),
            Ok(Event::Incoming(Incoming::SubAck(answer))) => Ok(Heard::Answered(
                answer.return_codes.iter().map(refusal).collect(),
            )),
            Ok(Event::Incoming(Incoming::Publish(message))) => Ok(Heard::Message {
                topic: topic_of(&message.topic)?,
                payload: message.payload.to_vec(),
                is_retained: message.retain,
            }),
            Ok(_) => Ok(Heard::Other),
            Err(error) => Err(ended(error)),
        }
    }

    fn subscribe(&mut self, filters: &[Filter]) -> Result<(), Ended> {
        let asked = filters
            .iter()
            .map(|filter| SubscribeFilter::new(filter.to_string(), QoS::AtLeastOnce));
        self.client
            .try_subscribe_many(asked)
            .map_err(|error| Ended::Lost(format!("cannot subscribe: {error}")))
    }
}

fn refusal(code: &SubscribeReasonCode) -> Option<String> {
    match code {
        SubscribeReasonCode::Success(_) => None,
        other => Some(format!(
            "the broker does not grant it ({other:?}): check its access list"
        )),
    }
}

fn ended(error: ConnectionError) -> Ended {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::UnsupportedProtocolVersion
            | ConnectReturnCode::RefusedProtocolVersion => {
                refused("it does not speak MQTT 5 (leave version away)")
            }
            ConnectReturnCode::ServerUnavailable
            | ConnectReturnCode::ServiceUnavailable
            | ConnectReturnCode::ServerBusy
            | ConnectReturnCode::ConnectionRateExceeded => {
                Ended::Lost(format!("the broker says {code:?}"))
            }
            other => refused(&format!("{other:?}")),
        },
        ConnectionError::Io(error)
        | ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(MqttError::Io(error)),
        ) => lost(&error.to_string()),
        ConnectionError::MqttState(
            error @ (StateError::Deserialization(_)
            | StateError::IncomingPacketTooLarge { .. }
            | StateError::ProtocolViolation(_)),
        ) => Ended::Senseless(error.to_string()),
        other => lost(&other.to_string()),
    }
}
