//! Plays a scoring game over standard input and output: what `trimtab simulate --stdio` does, without the command line.

use std::io::{BufRead, Write};

use autoscaler_core::simulate::Game;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut game = Game::new();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let Some(answer) = game.answer(&line?)? else { break };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}
