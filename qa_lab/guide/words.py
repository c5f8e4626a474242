"""Every word that the fences put on a page, in both languages."""

_TABLE = {
    # the head of a question's page
    "asked_in": ("Asked in", "出处"),
    "source": ("source {}", "来源 {}"),
    "chapter": ("Chapter", "章节"),
    "level": ("Level", "难度"),
    "level_1": ("every candidate", "人人应会"),
    "level_2": ("a good candidate", "优秀者应会"),
    "level_3": ("a senior candidate", "资深者应会"),
    "to_read": ("To read", "阅读"),
    "minutes": ("{} min", "{} 分钟"),
    "to_prove": ("To prove again", "重新证明"),
    "seconds": ("about {} s", "约 {} 秒"),
    "notebook": ("Read the notebook", "阅读 notebook"),
    "download_py": ("Download .py", "下载 .py"),
    "download_ipynb": ("Download .ipynb", "下载 .ipynb"),
    # a claim
    "proved": ("Proved", "已证明"),
    "proved_sentence": ("Proved: {}", "已证明：{}"),
    "claim": ("Claim", "论断"),
    "measured": ("Measured", "实测"),
    "one_value": ("one exact value", "一个精确值"),
    "values": ("{} values", "{} 个值"),
    "seeds": ("{} seeds", "{} 个随机种子"),
    "joined": ("{}, {}", "{}，{}"),
    "range": ("{} to {}", "{} 至 {}"),
    "bound": ("Must be", "须满足"),
    "control": ("Control", "对照"),
    "broken": ("Broken on purpose: {}", "故意破坏：{}"),
    "missed": ("misses the bound, as it must", "不满足界限，理应如此"),
    "settles": ("Settles", "判定"),
    "code": ("The code that measured this", "测量所用的代码"),
    "permalink": ("Link to this claim", "此论断的链接"),
    "log": ("log scale", "对数刻度"),
    # the audit
    "verdict": ("Verdict", "结论"),
    "holds": ("Holds", "成立"),
    "conditional": ("Holds under conditions", "有条件成立"),
    "refuted": ("Refuted", "不成立"),
    "untestable": ("Not testable here", "此处无法检验"),
    "open": ("Not settled yet", "尚未判定"),
    "statement": ("Statement", "说法"),
    "said_in": ("Said in", "见于"),
    "because": ("Why", "理由"),
    "evidence": ("Evidence", "证据"),
    "sources": ("The sources", "来源"),
    "published_at": ("first published at", "首发于"),
    "statements": ("statements", "条说法"),
    "no_statements": ("No source states anything about this.", "没有来源就此作出说法。"),
    # the ledger and the filters
    "question": ("Question", "题目"),
    "filter": ("Filter", "筛选"),
    "filter_hint": ("words to look for", "输入关键词"),
    "all": ("all", "全部"),
    "shown": ("{shown} of {all} shown", "显示 {shown} / {all} 条"),
    "ledger_table": ("All claims", "全部论断"),
    "audit_table": ("Statements and their verdicts", "说法与结论"),
    "table": ("Table", "表格"),
    "figure": ("Figure", "图"),
    # what was broken on purpose
    "falls_to": ("Fails when", "何时失败"),
    "edits": ("{} edits to the lab", "{} 处代码改动"),
    "one_edit": ("1 edit to the lab", "1 处代码改动"),
    "control_only": ("its control only", "仅对照"),
    "edit": ("Broken in the lab", "改坏之处"),
    "the_edit": ("The edit", "具体改动"),
    "noticed": ("Claims that fail", "失败的论断"),
    "nothing_noticed": ("none", "无"),
    "edits_tried": (
        "{} edits tried, {} of them unnoticed. "
        "{} of the guide’s {} claims fail under at least one.",
        "共试 {} 处改动，其中 {} 处没有论断察觉。全站 {} / {} 条论断至少在一处改动下失败。",
    ),
    "broken_table": ("Edits to the lab and the claims that fail", "代码改动与失败的论断"),
    # contents and home
    "unwritten": ("not yet written", "尚未撰写"),
    "claims_count": ("{} proved claims", "{} 条已证明的论断"),
    "one_claim": ("1 proved claim", "1 条已证明的论断"),
    "questions_written": ("questions answered, of {}", "道题已解答，共 {} 道"),
    "claims_proved": ("claims proved", "条论断已证明"),
    "statements_settled": ("statements settled, of {}", "条说法已判定，共 {} 条"),
    "whole_answer": ("Read the whole answer", "阅读完整回答"),
    # the reference
    "mechanisms": ("Uses", "用到的代码"),
    "used_by": ("Used by", "用到它的题目"),
    "paper": ("Paper", "论文"),
    "departs": ("Departs", "与论文不同"),
    "docstrings_are_english": (
        "The docstrings below are in English.",
        "以下文档字符串为英文原文。",
    ),
    # speed
    "not_measured": ("Not measured yet.", "尚未测量。"),
    "measured_on": ("Measured on {1}, on {0}.", "测量日期：{1}；机器：{0}。"),
    "what": ("What", "内容"),
    "ours": ("Ours", "我们"),
    "theirs": ("Theirs", "对照"),
    "ratio": ("Ratio", "比值"),
    "goal": ("Goal", "目标"),
    "met": ("Met", "达到"),
    "missed_goal": ("Missed", "未达到"),
    "speed_table": ("Speed and memory, measured", "速度与内存的实测结果"),
    # a notebook's page
    "behind": ("The notebook behind", "本 notebook 对应的题目："),
    "back": ("Back to the answer", "返回解答"),
    "notebook_title": ("Notebook: {}", "Notebook：{}"),
}


class Words:
    """The table in one language: `words("minutes", 4)`."""

    def __init__(self, language: str):
        self._column = {"en": 0, "zh": 1}[language]

    def __call__(self, key: str, *values: object, **named: object) -> str:
        return _TABLE[key][self._column].format(*values, **named)
