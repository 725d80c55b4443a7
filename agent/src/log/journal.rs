//! Lines for the journal, with values as fields and the identifier of what happened.
//!
//! Each is one datagram of the native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). A value `name` is the
//! field `CTSYNC_NAME`; the value `event` also gives `MESSAGE_ID`, by which `journalctl -x` finds the explanation in the
//! catalog that the package ships. A journal that does not keep up loses lines: the loop must not wait for it.

use std::fmt::{self, Write};
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Names of events, their identifiers, and what they mean.
const CATALOG: &str = include_str!("../../../packaging/journal/ctsync.catalog");

/// Writes to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// An error if nothing can be sent to it.
    pub fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // It ignores what is empty.
        socket.send_to(&[], SOCKET)?;
        Ok(Self { socket })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(*event.metadata().level());
        event.record(&mut entry);
        // Where else could it be told?
        let _ = self.socket.send_to(&entry.finish(), SOCKET);
    }
}

/// The fields of one line, as they are sent. What people read has them, too: who is dead stands in a field.
struct Entry {
    bytes: Vec<u8>,
    message: String,
    values: String,
}

impl Entry {
    fn new(level: Level) -> Self {
        let mut entry = Self {
            bytes: Vec::new(),
            message: String::new(),
            values: String::new(),
        };
        entry.put("PRIORITY", priority(level));
        entry.put("SYSLOG_IDENTIFIER", "ctsync");
        entry
    }

    /// The datagram.
    fn finish(mut self) -> Vec<u8> {
        let message = match self.values.as_str() {
            "" => self.message.clone(),
            values => format!("{}:{values}", self.message),
        };
        self.put("MESSAGE", &message);
        self.bytes
    }

    /// The form for values of any text: name, length, value.
    fn put(&mut self, name: &str, value: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend((value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => return self.message.push_str(value),
            "event" => {
                if let Some(id) = message_id(value) {
                    self.put("MESSAGE_ID", id);
                }
            }
            // Nothing was left out.
            "suppressed" if value == "0" => {}
            name => {
                // Writing to a string does not fail.
                let _ = write!(self.values, " {name}={value}");
            }
        }
        let name = format!("CTSYNC_{}", field.name().to_ascii_uppercase());
        self.put(&name, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

/// The names of syslog(3): what is said by default is worth a notice.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

/// The identifier of an event: in the catalog it stands in the line after its name.
fn message_id(event: &str) -> Option<&'static str> {
    let mut lines = CATALOG.lines();
    lines.find(|line| line.strip_prefix("# ") == Some(event))?;
    lines.next()?.strip_prefix("-- ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn every_event_of_the_catalog_has_an_identifier_of_its_own() {
        let names = CATALOG.lines().filter_map(|it| it.strip_prefix("# "));
        let ids: Vec<_> = names.filter_map(message_id).collect();
        assert!(
            ids.iter()
                .all(|it| it.len() == 32 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
        );
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert_eq!(ids.len(), CATALOG.matches("\n-- ").count());
        assert_eq!(message_id("no such event"), None);
    }

    #[test]
    fn values_are_fields_and_a_text_of_several_lines_is_one_value() {
        struct Catch(std::sync::mpsc::Sender<Vec<u8>>);
        impl<S: Subscriber> Layer<S> for Catch {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let mut entry = Entry::new(*event.metadata().level());
                event.record(&mut entry);
                self.0.send(entry.finish()).unwrap();
            }
        }
        let (sender, lines) = std::sync::mpsc::channel();
        let registry = tracing_subscriber::registry().with(Catch(sender));
        tracing::subscriber::with_default(registry, || {
            tracing::warn!(event = "peer-dead", member = 2, "it is\nsilent");
        });
        let id = message_id("peer-dead").unwrap();
        let mut expected = Entry::new(Level::WARN);
        for (name, value) in [
            ("MESSAGE_ID", id),
            ("CTSYNC_EVENT", "peer-dead"),
            ("CTSYNC_MEMBER", "2"),
            ("MESSAGE", "it is\nsilent: member=2"),
        ] {
            expected.put(name, value);
        }
        assert_eq!(lines.recv().unwrap(), expected.bytes);
    }
}
