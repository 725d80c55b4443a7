//! Requests of one client, and what they are answered.

use std::io;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Access, Patience};
use crate::control::answer::{Cursor, SyncStat};
use crate::control::{Ask, End, Failure, Request, Total, Verb, Wake};
use crate::udp::speed_mbit;

/// No verb needs more; JSON of twice the length is noise.
const REQUEST_BYTES_MAX: usize = 1024;
/// Rows that the driver gathers at a time: some 10 us of its time, and 100 KB of JSON.
const PAGE_ROWS: usize = 512;

/// What every client's task shares.
pub(super) struct Handler {
    pub wake: Wake,
    pub asks: mpsc::Sender<Ask>,
    pub access: Access,
    pub patience: Patience,
}

impl Handler {
    /// Serves one client until it goes, or has to.
    pub async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut request = Vec::new();
        loop {
            request.clear();
            let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX as u64);
            let read = bounded.read_until(b'\n', &mut request);
            let Ok(read) = timeout(self.patience.request, read).await else {
                let reason = "no request came for too long";
                return self.refuse(&mut writer, reason).await;
            };
            read?;
            if request.is_empty() {
                return Ok(());
            }
            if !request.ends_with(b"\n") {
                let reason = format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes");
                return self.refuse(&mut writer, &reason).await;
            }
            match serde_json::from_slice(&request) {
                Ok(Request { verb }) => self.answer(&mut writer, verb).await?,
                Err(error) => {
                    let reason = format!("this request is not known: {error}");
                    return self.refuse(&mut writer, &reason).await;
                }
            }
        }
    }

    async fn answer(&self, writer: &mut OwnedWriteHalf, verb: Verb) -> io::Result<()> {
        if verb.changes() && self.access == Access::Monitoring {
            let reason = "this socket is for monitoring and changes nothing: be root, or of the group of the control socket";
            return self.refuse(writer, reason).await;
        }
        match verb {
            Verb::Status => self.one_line(writer, Ask::Status).await,
            Verb::Syncstat => self.syncstat(writer).await,
            Verb::Flows => self.flows(writer).await,
            Verb::KeysRoll => self.one_line(writer, Ask::RollKeys).await,
            Verb::Explain(flow) => {
                let ask = |answer| Ask::Explain(flow, answer);
                self.one_line(writer, ask).await
            }
            Verb::Reload => self.reload(writer).await,
            Verb::Resync => self.one_line(writer, Ask::Resync).await,
            Verb::Audit => self.one_line(writer, Ask::Audit).await,
            Verb::AuditNow => self.one_line(writer, Ask::AuditNow).await,
            Verb::Paths => self.one_line(writer, Ask::Paths).await,
            Verb::Facts => self.one_line(writer, Ask::Facts).await,
            Verb::Accounting => self.one_line(writer, Ask::Accounting).await,
            Verb::Services => self.one_line(writer, Ask::Services).await,
            Verb::Roles(request) => {
                let ask = |answer| Ask::Roles(request, answer);
                self.one_line(writer, ask).await
            }
            Verb::Mode(request) => {
                let ask = |answer| Ask::Mode(request, answer);
                self.one_line(writer, ask).await
            }
        }
    }

    async fn one_line<T: Serialize>(
        &self,
        writer: &mut OwnedWriteHalf,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> io::Result<()> {
        match self.ask(ask).await {
            Ok(answer) => self.write(writer, &line(&answer)).await,
            Err(reason) => self.refuse(writer, reason).await,
        }
    }

    async fn syncstat(&self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        match self.ask(Ask::SyncStat).await {
            Ok(stat) => self.write(writer, &line(&with_speeds(stat))).await,
            Err(reason) => self.refuse(writer, reason).await,
        }
    }

    async fn reload(&self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        match self.ask(Ask::Reload).await {
            Ok(Ok(reloaded)) => self.write(writer, &line(&reloaded)).await,
            Ok(Err(reason)) => self.refuse(writer, &reason).await,
            Err(reason) => self.refuse(writer, reason).await,
        }
    }

    async fn flows(&self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut from = Cursor::default();
        let mut count = 0;
        loop {
            let ask = |answer| Ask::Flows {
                from,
                limit: PAGE_ROWS,
                answer,
            };
            let page = match self.ask(ask).await {
                Ok(page) => page,
                Err(reason) => return self.refuse(writer, reason).await,
            };
            count += page.rows.len() as u64;
            let mut lines = Vec::new();
            for row in &page.rows {
                put_line(&mut lines, row);
            }
            self.write(writer, &lines).await?;
            let Some(next) = page.next else {
                let end = Total { count };
                return self.write(writer, &line(&End { end })).await;
            };
            from = next;
        }
    }

    /// What the driver answers.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, &'static str> {
        let (sender, answer) = oneshot::channel();
        let ask = ask(sender);
        let patience = match ask {
            Ask::AuditNow(_) => self.patience.round,
            _ => self.patience.driver,
        };
        self.asks.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "the daemon is too busy to answer",
            mpsc::error::TrySendError::Closed(_) => "the daemon is stopping",
        })?;
        (self.wake)();
        match timeout(patience, answer).await {
            Ok(answer) => answer.map_err(|_| "the daemon is stopping"),
            Err(_) => Err("the daemon is too busy to answer"),
        }
    }

    async fn refuse(&self, writer: &mut OwnedWriteHalf, reason: &str) -> io::Result<()> {
        let error = reason.to_owned();
        self.write(writer, &line(&Failure { error })).await?;
        Err(io::Error::other("the client was refused"))
    }

    async fn write(&self, writer: &mut OwnedWriteHalf, lines: &[u8]) -> io::Result<()> {
        match timeout(self.patience.write, writer.write_all(lines)).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Interfaces say how fast they are only when their drivers have time, which the loop has not.
fn with_speeds(mut stat: SyncStat) -> SyncStat {
    for network in &mut stat.networks {
        network.speed_mbit = speed_mbit(&network.interface);
    }
    stat
}

/// An answer as it is written.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    put_line(&mut line, value);
    line
}

fn put_line(lines: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(&mut *lines, value).expect("names, numbers and text have a JSON form");
    lines.push(b'\n');
}
