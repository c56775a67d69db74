//! `local-aws [PORT]`: prints the endpoint, and runs until its standard input is closed, so that it never outlives the program
//! that started it.

use std::io::Write as _;

use local_aws::LocalAws;
use tokio::io::AsyncReadExt as _;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse()).map_err(std::io::Error::other)?;
    let aws = LocalAws::start(port).await?;
    writeln!(std::io::stdout(), "{}", aws.endpoint())?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
