// The plain way in Node: stream the body to a file, then read the file again to hash it, then rename.
// node stream_then_hash.mjs URL SHA256 FILE
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, renameSync } from "node:fs";
import { get } from "node:http";
import { pipeline } from "node:stream/promises";

const [url, expected, file] = process.argv.slice(2);
const response = await new Promise((resolve, reject) => get(url, resolve).on("error", reject));
if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
await pipeline(response, createWriteStream(`${file}.part`));
const hash = createHash("sha256");
await pipeline(createReadStream(`${file}.part`), hash);
if (hash.digest("hex") !== expected) throw new Error("wrong hash");
renameSync(`${file}.part`, file);
