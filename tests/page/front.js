// A reverse proxy before query, with a path prefix, that can answer by itself.

import { createServer, request } from 'node:http';

export class Front {
  /**
   * @param {string} to the address of query
   * @param {string} prefix such as `/stats`
   * @param {(path: string, response: import('node:http').ServerResponse) => boolean} answers
   *   true if it answers the path below the prefix
   */
  static async start(to, prefix, answers = () => false) {
    const server = createServer((from, response) => {
      const path = from.url?.startsWith(`${prefix}/`) ? from.url.slice(prefix.length) : undefined;
      if (path === undefined) {
        response.writeHead(404).end();
        return;
      }
      if (answers(path, response)) return;
      const onwards = request(`${to}${path}`, { method: from.method, headers: from.headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      onwards.on('error', () => response.destroy());
      response.on('close', () => onwards.destroy());
      from.pipe(onwards);
    });
    await new Promise((listens) => server.listen(0, '127.0.0.1', () => listens(undefined)));
    return new Front(server, prefix);
  }

  constructor(server, prefix) {
    this.server = server;
    /** Where the page is: `<url>/dashboard`. */
    this.url = `http://127.0.0.1:${server.address().port}${prefix}`;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
