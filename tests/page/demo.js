// `botstats up --demo`, for pictures.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';

/** Starts the demo; `link` is the first link to the page that it prints. */
export async function demo(program) {
  const folder = await mkdtemp(`${tmpdir()}/botstats-demo-`);
  const free = '127.0.0.1:0';
  const addresses = ['--http-addr', free, '--ingest-internal-addr', free, '--query-internal-addr', free, '--nats-port', '0'];
  const { PATH, HOME, XDG_CACHE_HOME, NATS_SERVER_BIN } = process.env;
  const child = spawn(program, ['up', '--demo', '--data', folder, ...addresses], {
    stdio: ['ignore', 'pipe', 'inherit'], env: { PATH, HOME, XDG_CACHE_HOME, NATS_SERVER_BIN, BOTSTATS_LOG: 'warn' },
  });
  const stop = async () => {
    child.kill('SIGTERM');
    await new Promise((done) => (child.exitCode === null ? child.once('exit', done) : done(undefined)));
    await rm(folder, { recursive: true, force: true });
  };
  for await (const line of createInterface({ input: child.stdout })) {
    const [, url, token] = line.match(/(http\S+)\/dashboard#(\S+)/) ?? [];
    if (url) {
      child.stdout.resume();
      return { url, token, stop };
    }
  }
  await stop();
  throw new Error('the demo ended without a link to the page');
}
