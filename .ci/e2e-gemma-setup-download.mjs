// Loaded into Gemini CLI: answers its download of `lit` with the file E2E_LIT, for no machine here reaches the real one.
// With E2E_LIT_SHA256 the file counts as one of that hash.
import crypto from 'node:crypto';
import { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const RELEASES = 'https://github.com/google-ai-edge/LiteRT-LM/releases/download/';
const lit = readFileSync(process.env.E2E_LIT);

const { fetch } = globalThis;
globalThis.fetch = async (input, init) =>
  String(input?.url ?? input).startsWith(RELEASES) ? new Response(lit) : fetch(input, init);

const { createHash } = crypto;
const actual = createHash('sha256').update(lit).digest('hex');
crypto.createHash = (...how) => {
  const hash = createHash(...how);
  const digest = hash.digest.bind(hash);
  hash.digest = (...encoding) => {
    const found = digest(...encoding);
    return found === actual ? process.env.E2E_LIT_SHA256 || actual : found;
  };
  return hash;
};
syncBuiltinESMExports();
