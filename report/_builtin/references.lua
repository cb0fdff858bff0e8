-- References to numbered things, and citations.

local common = require("common")
local html, words, targets, problem = common.html, common.words, common.targets, common.problem
local raw, raw_inline, prefix_of = common.raw, common.raw_inline, common.prefix_of
local M = {}

-- A reference is a citation whose keys start with fig-, tbl-, eq- or sec-.

local function reference(citation)
  local target = targets[citation.id]
  if not target then
    problem("@" .. citation.id, "the reference @" .. citation.id .. " leads nowhere")
    return { pandoc.Str("@" .. citation.id) }
  end
  if not target.number then
    problem("@" .. citation.id, "the reference @" .. citation.id .. " leads to a section without a number; link to it, as [words](#" .. citation.id .. ")")
    return { pandoc.Str("@" .. citation.id) }
  end
  local word = citation.mode == "SuppressAuthor" and "" or target.word .. "\u{a0}"
  local text = pandoc.Inlines({ pandoc.Str(word .. target.number) })
  if html then return { pandoc.Link(text, "#" .. citation.id, "", pandoc.Attr("", { "ref" })) } end
  return { raw_inline("#link(<" .. citation.id .. ">)["), text[1], raw_inline("]") }
end

function M.resolve(cite)
  local ours = 0
  for _, citation in ipairs(cite.citations) do
    if words[prefix_of(citation.id) or ""] then ours = ours + 1 end
  end
  if ours == 0 then return nil end
  if ours < #cite.citations then
    problem("@" .. cite.citations[1].id, "references and citations do not mix in one bracket")
  end
  local out = pandoc.Inlines({})
  for position, citation in ipairs(cite.citations) do
    if position > 1 then out:extend({ pandoc.Str(","), pandoc.Space() }) end -- as Quarto does
    out:extend(reference(citation))
  end
  return out
end

function M.check_citations(doc)
  local known = {}
  for _, entry in ipairs(pandoc.utils.references(doc)) do known[entry.id] = true end
  doc:walk({ Cite = function(cite)
    for _, citation in ipairs(cite.citations) do
      if not known[citation.id] then
        problem("@" .. citation.id, "@" .. citation.id .. " is neither in the bibliography nor a reference that starts with fig-, tbl-, eq- or sec-")
      end
    end
  end })
end

-- Long entries of the reference list hang; Typst has no style sheet for that.
function M.bibliography(div)
  if html or div.identifier ~= "refs" then return nil end
  local out = pandoc.Blocks({})
  for _, entry in ipairs(div.content) do
    out:insert(raw("#reference["))
    out:extend(entry.content)
    out:insert(raw("] <" .. entry.identifier .. ">"))
  end
  return out, false
end

return M
