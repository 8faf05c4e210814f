//! `trimtab simulate --stdio`: plays a scoring game, one JSON object per line, with the autoscaler's own core.

use std::io::{BufRead, Read, Write};

use anyhow::Context;
use autoscaler_core::simulate::Game;

/// Longest line that is read, bytes: a step of 20,000 tasks with room.
const LINE_LIMIT: u64 = 16 << 20;

/// Answers each line of `input` with one line on `output`, flushed, until the end of the game or of the input.
///
/// # Errors
/// When reading or writing fails, a line is too long, or a line is not what a game sends.
pub fn run_stdio(mut input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let mut game = Game::new();
    let mut line = String::new();
    loop {
        line.clear();
        let read =
            (&mut input).take(LINE_LIMIT).read_line(&mut line).context("reading a line of the game")?;
        if read == 0 {
            return Ok(());
        }
        anyhow::ensure!(read as u64 != LINE_LIMIT, "a line of the game is longer than {LINE_LIMIT} bytes");
        let Some(answer) = game.answer(line.trim_end())? else { return Ok(()) };
        writeln!(output, "{answer}").and_then(|()| output.flush()).context("answering a line of the game")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_one_answer_and_the_end_has_none() {
        let input = concat!(
            r#"{"type":"start","game":"resize","step_s":300,"resource":"cpu","unit":"cores","knob":0.5,"#,
            r#""floor":0.025,"warmup_steps":2,"tasks":[{"id":"t0","request":1.0,"max":2.0}]}"#,
            "\n",
            r#"{"type":"step","step":0,"t":0,"tasks":[["t0",0.31,0]]}"#,
            "\n",
            r#"{"type":"end"}"#,
            "\n"
        );
        let mut output = Vec::new();
        run_stdio(input.as_bytes(), &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "{}\n{}\n");
        assert!(run_stdio("{\"type\":\"step\"}\n".as_bytes(), Vec::new()).is_err());
    }
}
