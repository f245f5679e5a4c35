//! The buffer of log lines. A thread that logs never waits: a separate thread writes to standard
//! error.
//!
//! While nobody reads standard error (a log driver that hangs, a paused terminal) lines wait in a
//! buffer. When it is full, new lines are dropped and counted. The count is logged when lines are
//! read again.
//!
//! *Invariants*: no lock is held during a write. The buffer is bounded.

use std::io::{self, ErrorKind, Write};
use std::mem::take;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::super::telemetry;
use parking_lot::{Condvar, Mutex};

/// The most bytes of waiting lines: thousands of lines, and little memory for a program.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// Pause before a write is tried again after standard error would block, which happens if another
/// program made a shared pipe non-blocking.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The lines that wait. Each write to `&Lines` is one line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// True while the thread writes lines that it has taken.
    writing: bool,
    /// Lines dropped since the last that were written.
    dropped: u64,
}

impl Lines {
    /// Starts the thread that writes to `out` until the process ends. It calls `report` with the
    /// number of dropped lines when lines are read again.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = Arc::clone(&lines);
        thread::spawn(move || writer.write_for_ever(out, report));
        lines
    }

    /// Adds a line, or drops it if there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len() + line.len() > MAX_WAITING_BYTES {
            drop(state);
            return self.dropped(1);
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.changed.notify_all();
    }

    fn dropped(&self, lines: u64) {
        self.state.lock().dropped += lines;
        telemetry::log_lines_dropped(lines);
    }

    /// Waits until everything is written, for no longer than the limit.
    pub(super) fn flush(&self, limit: Duration) {
        let unwritten = |state: &mut State| state.writing || !state.waiting.is_empty();
        let _late = self.changed.wait_while_for(&mut self.state.lock(), unwritten, limit);
    }

    fn write_for_ever(&self, mut out: impl Write, report: impl Fn(u64)) {
        loop {
            let batch = self.next();
            if write_all(&mut out, &batch).is_err() {
                // Standard error is closed or its disk is full: there is no place to report that.
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.dropped(u64::try_from(lines).unwrap_or(u64::MAX));
                continue;
            }
            let dropped = take(&mut self.state.lock().dropped);
            if dropped > 0 {
                report(dropped);
            }
        }
    }

    /// Waits for lines and takes them.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        state.writing = false;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.waiting.is_empty());
        state.writing = true;
        take(&mut state.waiting)
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(BUSY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::sync::mpsc;

    use super::*;

    /// Much longer than any of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(writer, |dropped| panic!("{dropped} lines were dropped"));
        let texts: Vec<String> = (0..1_000).map(|n| format!("line {n}\n")).collect();
        texts.iter().for_each(|text| lines.push(text.as_bytes()));
        let read: Vec<_> = BufReader::new(reader).lines().take(1_000).map(Result::unwrap).collect();
        assert!(texts.iter().map(|text| text.trim_end()).eq(read));
        lines.flush(LONG);
        assert!(!lines.state.lock().writing);
    }

    #[test]
    fn nobody_waits_for_a_reader_and_dropped_lines_are_told_when_there_is_one() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (sender, told) = mpsc::channel();
        let lines = Lines::start(writer, move |dropped| sender.send(dropped).unwrap());
        let line = |length: usize| [vec![b'x'; length - 1].as_slice(), b"\n"].concat();
        // The pipe holds less: when the thread has taken this line, it waits for a reader.
        lines.push(&line(MAX_WAITING_BYTES));
        while !lines.state.lock().waiting.is_empty() {
            thread::yield_now();
        }
        let (fit, dropped) = (MAX_WAITING_BYTES / 1024, 3);
        (0..fit + dropped).for_each(|_| lines.push(&line(1024)));
        assert_eq!(lines.state.lock().waiting.len(), MAX_WAITING_BYTES);
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));

        let mut read = vec![0; 2 * MAX_WAITING_BYTES];
        reader.read_exact(&mut read).unwrap();
        let wanted = [line(MAX_WAITING_BYTES), line(1024).repeat(fit)].concat();
        assert!(read == wanted);
        assert_eq!(told.recv_timeout(LONG), Ok(u64::try_from(dropped).unwrap()));
        lines.push(b"again\n");
        let mut read = [0; 6];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"again\n");
    }

    /// Takes nothing at first, says so, then takes one byte at a time.
    struct Busy(u32, mpsc::Sender<u8>);

    impl Write for Busy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(ErrorKind::WouldBlock.into()),
                2 => Err(ErrorKind::Interrupted.into()),
                _ => {
                    self.1.send(bytes[0]).unwrap();
                    Ok(1)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_busy_standard_error_is_tried_again() {
        let (sender, written) = mpsc::channel();
        let lines = Lines::start(Busy(0, sender), |_| {});
        lines.push(b"whole\n");
        lines.flush(LONG);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), b"whole\n");
    }

    #[test]
    fn a_closed_standard_error_costs_lines_only() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let lines = Lines::start(writer, |_| {});
        lines.push(b"one\n");
        lines.push(b"two\n");
        lines.flush(LONG);
        assert_eq!(lines.state.lock().dropped, 2);
    }
}
