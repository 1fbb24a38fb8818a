/**
 * Reads a group's trajectories (safetensors, layout 1): what was sampled, and the texts of its
 * completions where the rollout service has sent them. Neighbours: `groups.js` shows it.
 */

const TYPES = { I32: Int32Array, F32: Float32Array, U8: Uint8Array };
const METADATA = "__metadata__";
const TEXTS = "etude_texts";

/**
 * `{rollouts: [{tokens, sampled, logprob, versions, text}]}`: numbers of tokens and of sampled
 * ones, mean log-probability of these, their policy versions, the text or null. Throws otherwise.
 */
export function readGroup(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tensor = (name) => {
    const { dtype, data_offsets: offsets } = header[name];
    const [begin, end] = offsets;
    return new TYPES[dtype](buffer.slice(8 + length + begin, 8 + length + end));
  };
  const [mask, logprobs, versions, ends] = ["loss_mask", "logprobs", "versions", "cu_seqlens"].map(
    tensor,
  );
  const texts = textsOf(header);
  const rollouts = [];
  for (let i = 0; i + 1 < ends.length; i += 1) {
    const seen = new Set();
    let [sampled, total] = [0, 0];
    for (let at = ends[i]; at < ends[i + 1]; at += 1) {
      if (!mask[at]) continue;
      sampled += 1;
      total += logprobs[at];
      seen.add(versions[at]);
    }
    rollouts.push({
      tokens: ends[i + 1] - ends[i],
      sampled,
      logprob: sampled ? total / sampled : null,
      versions: [...seen].sort((a, b) => a - b),
      text: texts[i] ?? null,
    });
  }
  return { rollouts };
}

/** Texts of the completions, by rollout; none if they were not sent. */
function textsOf(header) {
  const packed = header[METADATA]?.[TEXTS];
  if (!packed) return [];
  const texts = JSON.parse(packed);
  return Array.isArray(texts) ? texts.map((text) => (typeof text === "string" ? text : null)) : [];
}
