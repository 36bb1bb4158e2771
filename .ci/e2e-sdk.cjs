// Google's JavaScript SDK against the gateway: the local model, a hosted one, and one that the gateway chooses.
const assert = require('node:assert');
const { GoogleGenAI } = require('@google/genai');

const [port, local] = process.argv.slice(2);
const client = new GoogleGenAI({ apiKey: 'dummy', httpOptions: { baseUrl: `http://localhost:${port}` } });

async function unary(model, contents) {
  return (await client.models.generateContent({ model, contents })).text;
}

async function streamed(model, contents) {
  let text = '';
  for await (const chunk of await client.models.generateContentStream({ model, contents })) text += chunk.text ?? '';
  return text;
}

async function main() {
  for (const ask of [unary, streamed]) {
    const verdict = JSON.parse(await ask(local, 'why is the sky blue?'));
    assert.equal(verdict.model_choice, 'pro', ask.name);
    assert.match(await ask('gemini-2.5-flash', 'hello'), /^Hello from gemini-2\.5-flash$/, ask.name);
    assert.match(await ask('gem-auto', 'list the files here'), /^Hello from .*flash/, ask.name);
    assert.match(await ask('gem-auto', 'why does this architecture lose messages?'), /^Hello from .*pro/, ask.name);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
